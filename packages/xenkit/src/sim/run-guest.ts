/** Runs the simulated guest of guest.ts on a thread, concurrently with a backend that serves it. */
import type { SimDomain } from '@xenkit/sim'
import { UsageError } from '../cli/usage-error.ts'
import type { GuestOrders, GuestReport } from './guest.ts'
import { startThread } from '../threads/start-thread.ts'

/** Facts and digests that the guest reports. */
export interface GuestResult {
  readonly sectors: number
  readonly readOnly: boolean
  /**
   * Digests of the whole disk as the guest read it, before its writes and after them; the latter is
   * undefined if the guest wrote nothing.
   */
  readonly sha256: string
  readonly sha256AfterWrites: string | undefined
  readonly verifiedWrites: number
}

/** Options of `runGuest`. */
export interface RunGuestOptions {
  readonly guest: SimDomain
  readonly vdev: string
  readonly writes: number
  readonly seed: number
  /**
   * Ends the guest's thread, whatever it is doing; `runGuest` then rejects with the signal's
   * reason.
   */
  readonly signal?: AbortSignal
  readonly onReport?: (report: GuestReport) => void
}

/**
 * Runs the guest until it has finished and closed its disk.
 * @throws UsageError if the guest fails or ends early
 */
export async function runGuest({
  guest,
  onReport,
  signal,
  ...orders
}: RunGuestOptions): Promise<GuestResult> {
  const domain = guest.forThread()
  const data: GuestOrders = { ...orders, domain }
  const worker = startThread({
    module: import.meta.resolve('xenkit/sim-guest'),
    data,
    transferList: domain.transferList,
  })
  let result: GuestResult = {
    sectors: 0,
    readOnly: true,
    sha256: '',
    sha256AfterWrites: undefined,
    verifiedWrites: 0,
  }
  let finished = false
  worker.on('message', (report: GuestReport) => {
    if (report.kind === 'attached') {
      result = { ...result, sectors: report.sectors, readOnly: report.readOnly }
    } else if (report.kind === 'read') {
      result = {
        ...result,
        [report.phase === 'read' ? 'sha256' : 'sha256AfterWrites']: report.sha256,
      }
    } else if (report.kind === 'finished') {
      result = { ...result, verifiedWrites: report.verifiedWrites }
      finished = true
    }
    onReport?.(report)
  })
  const code = await new Promise<number>((resolve, reject) => {
    worker.once('error', ({ message }) => {
      reject(new UsageError(`the simulated guest failed: ${message}`))
    })
    worker.once('exit', resolve)
    signal?.addEventListener('abort', () => {
      reject(signal.reason)
      void worker.terminate()
    })
  })
  if (!finished) throw new UsageError(`the simulated guest ended early, with code ${code}`)
  return result
}
