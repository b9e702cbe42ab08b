/** `serveRings`: what a thread does that serves rings for `serveVbd`, which runs in another. */
import type { Hypervisor } from '@xenkit/hypervisor'
import type { CloseOptions } from '@xenkit/xenbus'
import type { BlockStore } from '@xenkit/block-store'
import type { OpenSharedStore } from '@xenkit/block-store'
import { unlessAborted } from '@xenkit/backend'
import { type Connection, connectRings } from './connect.ts'
import { type CrossingError, packError, unpackError } from '@xenkit/backend'
import { type Limits, sharedLimits } from './limits.ts'
import type { Abandon, Port, RingNews, RingOrders } from './ring-messages.ts'
import { VbdCounters } from './stats.ts'

/**
 * Serves rings of disks until the port closes: maps them and binds their ports by its own `hv`, of
 * the server's domain.
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
  const end = (error?: CrossingError): void => {
    tell({ kind: 'closed', error })
    port.close()
  }
  const abandon = new AbortController()
  const toClose = new Promise<CloseOptions>((resolve) => {
    const close = (error: Error): void => {
      abandon.abort(error)
      resolve({ frontend: 'gone' })
    }
    port.on('message', (order: CloseOptions | Abandon) => {
      if ('abandon' in order) close(unpackError(order.abandon))
      else resolve(order)
    })
    port.once('close', () => close(new Error("the server's thread is no more")))
  })
  let connection: Connection
  try {
    const limits = sharedLimits(o.limits)
    connection = await connectRings(hv, {
      ...o,
      store: await unlessAborted(openShared(o.store, limits), abandon.signal),
      limits,
      counters: new VbdCounters(o.numbers),
      failed: (error) => tell({ kind: 'failed', error: packError(error) }),
      storeFailed: (error) => tell({ kind: 'store-failed', error: packError(error) }),
      abandon: abandon.signal,
    })
  } catch (error) {
    return end(packError(error))
  }
  tell({ kind: 'connected' })
  const failure = await connection.close(await toClose).then(() => undefined, packError)
  if (abandon.signal.aborted && failure) {
    // The thread may end meanwhile: it has nothing to do but to wait for the store.
    tell({ kind: 'abandoned', error: failure })
    void connection.released.then(() => end())
    return
  }
  end(failure)
}

/**
 * @throws TypeError for a module that doesn't make what was promised to the guest: a flush that
 * isn't there would seem to succeed
 */
async function openShared(
  { module, data }: RingOrders['store'],
  limits: Limits,
): Promise<BlockStore> {
  const loaded: unknown = await import(module)
  if (!isStoreModule(loaded)) {
    throw new TypeError(
      `the module "${module}" of a shared store expected a function as its default export`,
    )
  }
  const store = await loaded.default(data, limits)
  const missing = (['write', 'flush', 'discard'] as const).find(
    (call) => limits[call === 'write' ? 'writable' : call] && !store[call],
  )
  if (missing) {
    throw new TypeError(
      `the module "${module}" of a shared store made one without "${missing}", which the store itself has`,
    )
  }
  return store
}

const isStoreModule = (module: unknown): module is { readonly default: OpenSharedStore } =>
  typeof module === 'object' &&
  module !== null &&
  'default' in module &&
  typeof module.default === 'function'
