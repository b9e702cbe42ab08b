/** `virtualCard`: a part of this program that is plugged into a link, as if it were a card. */
import type { Card } from '@xenkit/frames'

/** Options of whatever is plugged into a link as if it were a card. */
export interface VirtualCardOptions {
  /** Name that the link sees as its card's, default "xenkit". */
  readonly name?: string
  /** Called when the link is lost for good, and is no longer used. Default: a process warning. */
  readonly onFail?: (error: unknown) => void
}

const warn = (error: unknown): void => {
  process.emitWarning(error instanceof Error ? error : String(error))
}

/** Returns all of a card but how it takes frames. @param close called when the link is lost */
export const virtualCard = (
  { name = 'xenkit', onFail = warn }: VirtualCardOptions,
  close: () => Promise<void>,
): Pick<Card, 'name' | 'domid' | 'devid' | 'mac' | 'fail'> => ({
  name,
  domid: 0,
  devid: 0,
  mac: undefined,
  fail(error) {
    onFail(error)
    close().catch(onFail)
  },
})
