/** `serveRings`: what a thread does that serves rings for `serveVbd`, which runs in another. */
import type { Hypervisor } from '@xenkit/hypervisor'
import type { CloseOptions } from '@xenkit/xenbus'
import type { BlockStore } from '../block-store.ts'
import type { OpenSharedStore } from '../shared-store.ts'
import { connectRings } from './connect.ts'
import { packError } from './crossing-error.ts'
import { type Limits, sharedLimits } from './limits.ts'
import type { Port, RingNews, RingOrders } from './ring-messages.ts'
import { VbdCounters } from './stats.ts'

/**
 * Serves rings of disks until the port closes: maps them and binds their ports by its own `hv`, of the server's domain.
 * @param port the other end of a `RingThread`'s
 */
export async function serveRings(hv: Hypervisor, port: Port): Promise<void> {
  const serving = new Set<Promise<void>>()
  port.on('message', (orders: RingOrders) => {
    const served = serveDisk(hv, orders).finally(() => serving.delete(served))
    serving.add(served)
  })
  await new Promise<void>((resolve) => port.once('close', resolve))
  await Promise.all(serving)
}

async function serveDisk(hv: Hypervisor, { port, ...o }: RingOrders): Promise<void> {
  const tell = (news: RingNews): void => port.postMessage(news)
  const toClose = new Promise<CloseOptions>((resolve) => {
    port.once('message', resolve)
    port.once('close', () => resolve({ frontend: 'gone' }))
  })
  try {
    const limits = sharedLimits(o.limits)
    const connection = await connectRings(hv, {
      ...o,
      store: await openShared(o.store, limits),
      limits,
      counters: new VbdCounters(o.numbers),
      failed: (error) => tell({ kind: 'failed', error: packError(error) }),
      storeFailed: (error) => tell({ kind: 'store-failed', error: packError(error) }),
    })
    tell({ kind: 'connected' })
    await connection.close(await toClose)
    tell({ kind: 'closed', error: undefined })
  } catch (error) {
    tell({ kind: 'closed', error: packError(error) })
  } finally {
    port.close()
  }
}

/** @throws TypeError for a module that doesn't make what was promised to the guest: a flush that isn't there would seem to succeed */
async function openShared({ module, data }: RingOrders['store'], limits: Limits): Promise<BlockStore> {
  const loaded: unknown = await import(module)
  if (!isStoreModule(loaded)) throw new TypeError(`the module "${module}" of a shared store expected a function as its default export`)
  const store = await loaded.default(data, limits)
  const missing = (['write', 'flush', 'discard'] as const).find((call) => limits[call === 'write' ? 'writable' : call] && !store[call])
  if (missing) throw new TypeError(`the module "${module}" of a shared store made one without "${missing}", which the store itself has`)
  return store
}

const isStoreModule = (module: unknown): module is { readonly default: OpenSharedStore } => typeof module === 'object' && module !== null && 'default' in module && typeof module.default === 'function'
