/**
 * A disk as a guest uses it: a block frontend in TypeScript, for simulated guests and for tests of any
 * backend. It is itself a BlockStore, so that what it reaches can be served again.
 */
import { EventChannel } from '@xenkit/evtchn'
import { GrantTable } from '@xenkit/grant'
import { type Hypervisor, RingProtocolError, XenError, expectInteger } from '@xenkit/hypervisor'
import { FrontRing } from '@xenkit/ring'
import { type Abi, BLKIF_OP, BLKIF_RSP, type BlkifLayout, VDISK, blkif } from '@xenkit/wire'
import { FrontendDevice } from '@xenkit/xenbus'
import { openXenstore } from '@xenkit/xenstore-client'
import type { BlockStore } from '../block-store.ts'
import { MAX_RING_PAGE_ORDER, diskNodes, offerNodes, ringNodes } from '../nodes.ts'
import { parseVdev, vdevName } from '../vdev.ts'
import { type DiskRequest, PAGES_PER_ROW, RequestSlots } from './slots.ts'
import { split } from './split.ts'

export interface AttachDiskOptions {
  /** Which disk: `xvda`, or its devid. */
  readonly vdev: string | number
  /** Pages of the ring as a power of two, 0..4; at most what the backend offers. Default 0. */
  readonly ringPageOrder?: number
  /** Most requests in flight, each with 11 granted pages; at most the ring's slots. Default 32. */
  readonly depth?: number
  /** Whose layout to use on the ring; any backend has to understand all of them. Default x86_64. */
  readonly abi?: Abi
  /** Gives up the waiting for the backend. */
  readonly signal?: AbortSignal
}

/** A request that the backend answered with an error, or that could not be made. `status` is a BLKIF_RSP code. */
export class DiskError extends XenError {
  constructor(message: string, details: { readonly vdev: string; readonly status: number }) {
    super('ERR_XEN_DISK', message, details)
  }
}

/**
 * Waits for the disk's backend and connects to it.
 * @throws RangeError for a vdev, order or depth out of range
 * @throws NegotiationError when the backend publishes what can't be used, or closes instead
 * @throws the signal's reason when that aborts
 */
export async function attachDisk(hv: Hypervisor, o: AttachDiskOptions): Promise<Disk> {
  const devid = parseVdev(String(o.vdev))
  const { ringPageOrder = 0, depth = 32, abi = 'x86_64' } = o
  expectInteger('ringPageOrder', ringPageOrder, 0, MAX_RING_PAGE_ORDER)
  expectInteger('depth', depth, 1, 512)
  const waiting = o.signal ? { signal: o.signal } : {}
  const layout = blkif[abi]

  const xs = await openXenstore(hv.xenstore)
  const grants = new GrantTable(hv.grants)
  let channel: EventChannel | undefined
  const release = (): void => {
    channel?.close()
    grants.close()
    xs.close()
  }
  try {
    const device = await FrontendDevice.open(xs, { domid: hv.domid, type: 'vbd', devid }, waiting)
    const domid = device.backendDomid
    const { 'max-ring-page-order': offered } = await offerNodes.read(xs, device.backendPath)
    if (ringPageOrder > offered) throw new RangeError(`"ringPageOrder" expected 0..${offered}, which the backend offers, got ${ringPageOrder}`)
    const { bytes, grefs } = grants.share({ domid, pages: 1 << ringPageOrder, writable: true })
    const ring = FrontRing.init({ bytes, slotSize: layout.slotSize })
    const rows = Math.min(depth, ring.size)
    const share = grants.share({ domid, pages: rows * PAGES_PER_ROW, writable: true })
    channel = EventChannel.bindUnbound(hv.evtchn, { domid })
    await device.publish(ringNodes({ rings: [{ grefs, port: channel.port }], abi, ringPageOrder }))
    await device.connected(waiting)
    const disk = new Disk({
      ring,
      layout,
      channel,
      slots: new RequestSlots({ rows, share, layout, ring: bytes }),
      vdev: vdevName(devid),
      published: await diskNodes.read(xs, device.backendPath),
      async close() {
        try {
          await device.close()
        } finally {
          release()
        }
      },
    })
    // A backend that wants to go waits for this side to let go. The connection ends with the disk.
    device.backendClosing().then(
      () => disk.close(),
      () => disk.close(),
    ).catch(() => {})
    return disk
  } catch (error) {
    release()
    throw error
  }
}

interface DiskParts {
  readonly ring: FrontRing
  readonly slots: RequestSlots
  readonly channel: EventChannel
  readonly layout: BlkifLayout
  /** What the backend says of the disk. */
  readonly published: Awaited<ReturnType<typeof diskNodes.read>>
  readonly vdev: string
  /** Closes the device with the backend's consent, then gives back what it used. */
  readonly close: () => Promise<void>
}

export class Disk implements BlockStore, AsyncDisposable {
  readonly sectors: number
  readonly readOnly: boolean
  readonly #p: DiskParts
  readonly #waiting: DiskRequest[] = []
  #pushPlanned = false
  #failure: Error | undefined
  #closed: Promise<void> | undefined

  /** Use `attachDisk`. */
  constructor(parts: DiskParts) {
    this.#p = parts
    this.sectors = parts.published.sectors
    this.readOnly = (parts.published.info & VDISK.READONLY) !== 0
    parts.channel.handle(
      () => this.#drain(),
      (error) => this.#fail(error),
    )
  }

  /** @throws DiskError when the backend answers with an error */
  async read(sector: number, into: Uint8Array[]): Promise<void> {
    await this.#transfer(BLKIF_OP.READ, sector, into)
  }

  /** @throws DiskError when the backend answers with an error, as it does for a read-only disk */
  async write(sector: number, from: Uint8Array[]): Promise<void> {
    await this.#transfer(BLKIF_OP.WRITE, sector, from)
  }

  /** Does nothing where the backend offers no flush: its writes are then durable by themselves, or never. */
  async flush(): Promise<void> {
    if (this.#p.published['feature-flush-cache']) await this.#submit({ operation: BLKIF_OP.FLUSH_DISKCACHE, sector: 0, data: [], bytes: 0 })
  }

  /**
   * Fails what is in flight, closes the device with the backend's consent and gives its pages back. The
   * disk does so by itself when its backend closes.
   */
  close(): Promise<void> {
    this.#fail(new DiskError(`disk "${this.#p.vdev}" was closed`, { vdev: this.#p.vdev, status: BLKIF_RSP.ERROR }))
    this.#closed ??= this.#p.close()
    return this.#closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #transfer(operation: number, sector: number, buffers: readonly Uint8Array[]): Promise<void> {
    // Not `Promise.all`: the caller's buffers are in use until the last piece is done.
    const pieces = await Promise.allSettled(split(sector, buffers).map((piece) => this.#submit({ operation, ...piece })))
    for (const piece of pieces) if (piece.status === 'rejected') throw piece.reason
  }

  #submit(request: Omit<DiskRequest, 'done'>): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#failure) return reject(this.#failure)
      const done = (status: number | Error): void => {
        if (status === BLKIF_RSP.OKAY) resolve()
        else if (status instanceof Error) reject(status)
        else reject(this.#refused(request, status))
      }
      this.#waiting.push({ ...request, done })
      this.#planPush()
    })
  }

  #refused({ operation, sector, bytes }: Omit<DiskRequest, 'done'>, status: number): DiskError {
    const what = operation === BLKIF_OP.READ ? 'read' : operation === BLKIF_OP.WRITE ? 'write' : `operation ${operation}`
    return new DiskError(`disk "${this.#p.vdev}" answered ${status} to a ${what} of ${bytes / 512} sectors at ${sector}`, { vdev: this.#p.vdev, status })
  }

  /** Requests of one tick are published together, with one notification. */
  #planPush(): void {
    if (this.#pushPlanned) return
    this.#pushPlanned = true
    queueMicrotask(() => {
      this.#pushPlanned = false
      this.#push()
    })
  }

  #push(): void {
    const { ring, slots, channel } = this.#p
    if (this.#failure) return
    while (slots.freeCount > 0 && ring.free > 0) {
      const request = this.#waiting.shift()
      if (!request) break
      slots.put(request, ring.reserveRequest(), request.operation !== BLKIF_OP.READ)
    }
    if (ring.publish()) channel.notify()
  }

  #drain(): void {
    const { ring, slots, layout } = this.#p
    if (this.#failure) return
    const { at } = layout.response
    const image = new DataView(ring.image)
    do {
      for (let count = ring.drain(ring.size); count > 0; count = ring.drain(ring.size)) {
        for (let i = 0; i < count; i++) {
          const base = i * ring.imageStride
          const operation = image.getUint8(base + at.operation)
          const status = image.getInt16(base + at.status, true)
          const readBack = operation === BLKIF_OP.READ && status === BLKIF_RSP.OKAY
          const request = slots.finish(image.getUint32(base + at.id, true), image.getUint32(base + at.id + 4, true), operation, readBack)
          if (!request) throw new RingProtocolError(`the backend answered a request that disk "${this.#p.vdev}" did not send`, { indices: ring.indices() })
          request.done(status)
        }
      }
    } while (ring.finalCheck())
    this.#push()
  }

  /** Ends everything in flight and refuses what comes. */
  #fail(error: unknown): void {
    if (this.#failure) return
    const failure = error instanceof Error ? error : new Error(String(error))
    this.#failure = failure
    for (const request of [...this.#p.slots.drop(), ...this.#waiting.splice(0)]) request.done(failure)
  }
}
