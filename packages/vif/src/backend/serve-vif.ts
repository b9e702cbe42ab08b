/** `serveVif`: a network backend for every card that a toolstack gives to this domain. */
import { serveDevices } from '@xenkit/backend'
import { expectInteger, type Hypervisor } from '@xenkit/hypervisor'
import { MAX_QUEUES } from '../nodes.ts'
import type { ServeVifOptions } from './serve-vif-options.ts'
import { VifDriver } from './vif-driver.ts'

/**
 * Serves network cards until the signal aborts; without a signal, for ever. A fault of one card,
 * its link or its guest closes that card alone. The error goes to `onEvent` and into the card's
 * error node. Nodes and rings follow xen/include/public/io/netif.h.
 *
 * @throws TypeError if `hv` is no hypervisor
 * @throws TypeError, RangeError for a `link` that is none, or `queues` or `abandonMs` out of range
 * @throws NotAvailableError if no xenstored answers
 * @throws XenstoreError if the connection to xenstored is lost
 * @example
 * await using hv = await openHypervisor()
 * await serveVif(hv, { link: openSwitch() })
 */
export async function serveVif(hv: Hypervisor, o: ServeVifOptions): Promise<void> {
  if (o.queues !== undefined) expectInteger('queues', o.queues, 1, MAX_QUEUES)
  await serveDevices(hv, o, {
    type: 'vif',
    driver: (context) => new VifDriver(hv, o, context),
    onEvent: (event, driver) => {
      const card = driver.cardOf(event.device)
      driver.tell(
        'error' in event
          ? { kind: event.kind, card, error: event.error }
          : { kind: event.kind, card },
      )
    },
  })
}
