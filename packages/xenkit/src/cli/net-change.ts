/**
 * `xenkit net detach`, `capture` and `mirror`: requests about a network card that another process
 * serves.
 */
import { resolve } from 'node:path'
import { type VifAddress, type WatchRequest, listVifs, unplugVif, watchVif } from '@xenkit/vif'
import type { XenControl } from '@xenkit/xen'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { timeLimit } from './time-limit.ts'
import { UsageError } from './usage-error.ts'

/** Milliseconds to wait for a guest to release a card, as in libxl. */
const DETACH_TIMEOUT_MS = 10_000
/** Milliseconds to wait for an answer of the process that serves the card. */
const ANSWER_TIMEOUT_MS = 10_000

/**
 * Unplugs a card, whichever program plugged it. Its guest must release it first, unless `force` is
 * set.
 */
export async function netDetach(
  control: XenControl,
  domid: number,
  devid: number,
  o: { readonly force: boolean },
): Promise<void> {
  using xs = await openXenstore(control.xenstore)
  const address = await findCard(xs, { domid, devid, backendDomid: control.domid })
  if (o.force) {
    await unplugVif(xs, address, { signal: AbortSignal.abort() })
    return
  }
  const advice = `the guest doesn't release card ${devid} of domain ${domid}: detach it with --force`
  await timeLimit(DETACH_TIMEOUT_MS, advice, unplugVif(xs, address))
}

/** Captures a card to a file or a named pipe. @param file undefined: ends the capture */
export async function netCapture(
  control: XenControl,
  domid: number,
  devid: number,
  file: string | undefined,
): Promise<void> {
  await watch(control, { domid, devid }, { capture: file === undefined ? '' : resolve(file) })
}

/** Mirrors a card to the target in words of `formatMirrorTarget`; empty: ends the mirror. */
export async function netMirror(
  control: XenControl,
  domid: number,
  devid: number,
  target: string,
): Promise<void> {
  await watch(control, { domid, devid }, { mirror: target })
}

async function watch(
  control: XenControl,
  { domid, devid }: { readonly domid: number; readonly devid: number },
  wanted: WatchRequest,
): Promise<void> {
  using xs = await openXenstore(control.xenstore)
  const address = await findCard(xs, { domid, devid, backendDomid: control.domid })
  const noAnswer = `the server of card ${devid} of domain ${domid} does not answer`
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS)
  try {
    await watchVif(xs, address, { ...wanted, signal })
  } catch (error) {
    throw signal.aborted && error === signal.reason ? new UsageError(noAnswer) : error
  }
}

async function findCard(
  xs: XenstoreClient,
  { domid, devid, backendDomid }: { domid: number; devid: number; backendDomid: number },
): Promise<VifAddress> {
  const card = (await listVifs(xs, backendDomid)).find(
    (listed) => listed.frontendDomid === domid && listed.devid === devid,
  )
  if (card) return { frontendDomid: domid, backendDomid, devid }
  throw new UsageError(
    `domain ${domid} has no network card ${devid} that this domain serves: see "xenkit net list"`,
  )
}
