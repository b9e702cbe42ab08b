/** Lists a backend domain's network cards from xenstore, whichever program serves them. */
import { type ListedDevice, listDevices } from '@xenkit/xenbus'
import type { XenstoreReader } from '@xenkit/xenstore-client'
import { type RequestedCard, readRequestedCard } from './requested-card.ts'

/** A network card in xenstore, with the state of both sides. */
export interface ListedCard extends RequestedCard, ListedDevice {}

/**
 * Lists the network cards of one backend domain, ordered by the guests' domids and then by devid.
 *
 * @param backendDomid the domain that serves the cards, 0..32751
 * @throws XenstoreError, XenstoreClosedError if xenstored refuses or is lost
 */
export function listVifs(view: XenstoreReader, backendDomid: number): Promise<ListedCard[]> {
  return listDevices(view, {
    backendDomid,
    type: 'vif',
    read: (device) => readRequestedCard(view, device),
  })
}
