/** `xenkit net detach`: a request about a network card that another process serves. */
import { type VifAddress, listVifs, unplugVif } from '@xenkit/vif'
import type { XenControl } from '@xenkit/xen'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { timeLimit } from './time-limit.ts'
import { UsageError } from './usage-error.ts'

/** Milliseconds to wait for a guest to release a card, as in libxl. */
const DETACH_TIMEOUT_MS = 10_000

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
