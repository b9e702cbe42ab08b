/** The worker's side: serves the rings that a server in another thread assigns. */
import type { Hypervisor } from '@xenkit/hypervisor'
import type { CloseOptions } from '@xenkit/xenbus'
import type { ServedRings } from '../served-rings.ts'
import { type CrossingError, packError, unpackError } from './crossing-error.ts'
import type { Abandon, Port, RingNews, RingOrders } from './messages.ts'

/** Callbacks and signal of a `RingHost`, in the worker. */
export interface RingHostOptions {
  /** Call it when the rings can't be served any more: their device is closed. */
  readonly failed: (error: unknown) => void
  /** Sends a message to the server's thread: anything that structured clone accepts. */
  readonly tell: (news: unknown) => void
  /** Aborts when waiting for rows in flight ends. */
  readonly abandon: AbortSignal
}

/** Connects rings of one type of device in a worker. */
export interface RingHost<Config> {
  /**
   * Connects rings of one device and starts to serve them.
   * @param hv of the device's backend domain, opened in this thread
   * @param config as the server's side of the device package created it
   * @throws any error, which closes the device
   */
  connect(
    hv: Hypervisor,
    config: Config,
    o: RingHostOptions,
  ): Promise<Pick<ServedRings, 'close' | 'released'>>
}

/** Hosts by the name that `Workers.connect` uses. Each host knows the type of its `config`. */
export type RingHosts = Readonly<Record<string, RingHost<never>>>

/**
 * Serves rings in a worker until the port closes. They are mapped, and their ports bound, by `hv`.
 * @param hv of the server's domain, opened in this thread
 * @param port the other end of a `RingThread`'s port
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
    port.once('close', () => close(new Error("the server's thread has ended")))
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
    // The thread may end before that: it only waits for rows in flight.
    tell({ kind: 'abandoned', error: failure })
    void rings.released.then(() => end())
    return
  }
  end(failure)
}
