/** A card of `openVif`, connected to a backend that is written by hand. */
import { type OpenVifOptions, type Vif, openVif } from '../../src/index.ts'
import { type AnswerControl, HandBackend, type Offer } from './hand-backend.ts'

export interface ConnectedVif extends AsyncDisposable {
  readonly back: HandBackend
  readonly vif: Vif
}

/** Opens a card. The end of the test closes both sides, and checks that nothing is left open. */
export async function connectedVif(
  o: Partial<OpenVifOptions> & {
    readonly offer?: Offer
    readonly answerControl?: AnswerControl
  } = {},
): Promise<ConnectedVif> {
  const { offer, answerControl, ...options } = o
  const back = await HandBackend.open(offer)
  if (answerControl) back.answerControl = answerControl
  const opening = openVif(back.guest, { devid: 0, staticGrants: false, ...options })
  await back.connect()
  const vif = await opening
  return {
    back,
    vif,
    async [Symbol.asyncDispose]() {
      const closing = vif.close()
      await back.close()
      await closing
      await back[Symbol.asyncDispose]()
    },
  }
}

/** Bytes that differ from place to place and from length to length. */
export const bytesOf = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8) + length) & 255)
