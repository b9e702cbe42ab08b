/** `serveVbd`: a block backend for every disk that a toolstack gives to this domain. */
import { serveDevices } from '@xenkit/backend'
import type { Hypervisor } from '@xenkit/hypervisor'
import { DATA_PATHS } from './data-path.ts'
import { expectStore } from './expect-store.ts'
import { sectorsOf } from './limits.ts'
import type { ServeVbdOptions } from './serve-vbd-options.ts'
import { VbdDriver } from './vbd-driver.ts'

/**
 * Serves disks until the signal aborts; without a signal, for ever. A fault of one disk or its
 * guest closes that disk alone. The error goes to `onEvent` and into the disk's error node. Nodes
 * and rings follow xen/include/public/io/blkif.h.
 *
 * @throws TypeError if `hv` is no hypervisor
 * @throws TypeError, RangeError for a store that can't be served, a `dataPath` that doesn't exist,
 *   or `abandonMs` out of range
 * @throws NotAvailableError if no xenstored answers
 * @throws XenstoreError if the connection to xenstored is lost
 * @example
 * await using hv = await openHypervisor()
 * await serveVbd(hv, { store: memoryStore(2048) })
 */
export async function serveVbd(hv: Hypervisor, o: ServeVbdOptions): Promise<void> {
  const { store } = o
  if (typeof store !== 'function') {
    expectStore(store)
    sectorsOf(store)
  }
  if (o.dataPath !== undefined && !DATA_PATHS.includes(o.dataPath)) {
    throw new RangeError(
      `"dataPath" expected ${DATA_PATHS.join(' or ')}, got "${String(o.dataPath)}"`,
    )
  }
  await serveDevices(hv, o, {
    type: 'vbd',
    ...(o.backendTypes ? { backendTypes: o.backendTypes } : {}),
    driver: (context) => new VbdDriver(hv, o, context),
    onEvent: (event, driver) => {
      const disk = driver.diskOf(event.device)
      driver.tell(
        'error' in event
          ? { kind: event.kind, disk, error: event.error }
          : { kind: event.kind, disk },
      )
    },
  })
}
