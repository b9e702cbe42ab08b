/** The worker's part: connects the rings that a server in another thread names. */
import type { Hypervisor } from '@xenkit/hypervisor'
import type { CloseOptions } from '@xenkit/xenbus'
import type { ServedRings } from '../served-rings.ts'
import { type CrossingError, packError, unpackError } from './crossing-error.ts'
import type { Abandon, Port, RingNews, RingOrders } from './messages.ts'

/** What a host is given in the worker. */
export interface RingHostOptions {
  /** The rings can't be served any more: their device is closed. */
  readonly failed: (error: unknown) => void
  /** Tells the server's thread of something: anything that goes through structured clone. */
  readonly tell: (news: unknown) => void
  /** Aborts when rows in flight are waited for no longer. */
  readonly abandon: AbortSignal
}

/** Connects the rings of one type of device, in whatever thread. */
export interface RingHost<Config> {
  /**
   * @param hv of the device's backend domain, opened in this thread
   * @param config as the server's part of the device package made it
   * @throws anything, which closes the device
   */
  connect(
    hv: Hypervisor,
    config: Config,
    o: RingHostOptions,
  ): Promise<Pick<ServedRings, 'close' | 'released'>>
}

/** Hosts by the name that `Workers.connect` uses; each knows what its own `config` is. */
export type RingHosts = Readonly<Record<string, RingHost<never>>>

/**
 * Serves rings until the port closes: maps them and binds their ports by its own `hv`, which is of
 * the server's domain.
 * @param port the other end of a `RingThread`'s
 */
export async function serveRings(hv: Hypervisor, port: Port, hosts: RingHosts): Promise<void> {
  const serving = new Set<Promise<void>>()
  port.on('message', (orders: RingOrders<never>) => {
    const served = serveDevice(hv, orders, hosts).finally(() => serving.delete(served))
    serving.add(served)
  })
  await new Promise<void>((resolve) => port.once('close', resolve))
  await Promise.all(serving)
}

async function serveDevice(
  hv: Hypervisor,
  { port, host, config }: RingOrders<never>,
  hosts: RingHosts,
): Promise<void> {
  const tell = (news: RingNews<unknown>): void => port.postMessage(news)
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
  let rings
  try {
    const connects = hosts[host]
    if (!connects) throw new TypeError(`no host of rings is named "${host}" in this thread`)
    rings = await connects.connect(hv, config, {
      failed: (error) => tell({ kind: 'failed', error: packError(error) }),
      tell: (news) => tell({ kind: 'told', news }),
      abandon: abandon.signal,
    })
  } catch (error) {
    return end(packError(error))
  }
  tell({ kind: 'connected' })
  const failure = await rings.close(await toClose).then(() => undefined, packError)
  if (abandon.signal.aborted && failure) {
    // The thread may end meanwhile: it has nothing to do but to wait for rows in flight.
    tell({ kind: 'abandoned', error: failure })
    void rings.released.then(() => end())
    return
  }
  end(failure)
}
