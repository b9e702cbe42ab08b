/** `xenkit disk serve` and `xenkit disk attach`. */
import { randomUUID } from 'node:crypto'
import { access } from 'node:fs/promises'
import type { Hypervisor } from '@xenkit/hypervisor'
import { type BlockStore, type RequestedDisk, type VbdEvent, parseVdev, plugVbd, serveVbd, unplugVbd, vdevName } from '@xenkit/vbd'
import { openFileStore } from '@xenkit/vbd/stores'
import { openXenstore } from '@xenkit/xenstore-client'
import { openHypervisor } from '../open-hypervisor.ts'
import { interrupted } from './interrupted.ts'
import { UsageError } from './usage-error.ts'

/** The device is closed by then; this is for a xenstored that answers late. */
const UNPLUG_TIMEOUT_MS = 1_000

export interface ServeOptions {
  readonly readOnly: boolean
  /** Serve this domain's disk alone. */
  readonly domid?: number
  /** Serve the disk of this name alone. */
  readonly vdev?: string
}

/** Serves an image to the disks that a toolstack gives to this domain, until interrupted. */
export async function diskServe(image: string, o: ServeOptions): Promise<void> {
  const devid = o.vdev === undefined ? undefined : vdevArgument(o.vdev)
  await using store = await openFileStore(image, { readOnly: o.readOnly })
  await using hv = await openHypervisor()
  await expectNoKernelBackend(hv)
  const wanted = (disk: RequestedDisk): BlockStore | undefined =>
    (o.domid ?? disk.frontendDomid) === disk.frontendDomid && (devid ?? disk.devid) === disk.devid ? store : undefined
  const anyDisk = o.domid === undefined && devid === undefined
  console.log(`serving ${image}, ${store.sectors} sectors; waiting for a disk of this domain's`)
  await serveVbd(hv, { store: anyDisk ? store : wanted, signal: interrupted(), onEvent: print })
}

/**
 * Plugs a disk into a running domain and serves it until it is unplugged or this command interrupted,
 * then takes it away again.
 */
export async function diskAttach(domid: number, vdev: string, image: string, o: { readonly readOnly: boolean }): Promise<void> {
  vdevArgument(vdev)
  await using store = await openFileStore(image, { readOnly: o.readOnly })
  await using hv = await openHypervisor()
  await expectNoKernelBackend(hv)
  using xs = await openXenstore(hv.xenstore)
  const address = { frontendDomid: domid, backendDomid: hv.domid, vdev }
  const reservation = randomUUID()
  const stop = new AbortController()
  let failure: unknown
  const serving = serveVbd(hv, {
    store,
    reservation,
    signal: AbortSignal.any([interrupted(), stop.signal]),
    onEvent(event) {
      print(event)
      if (event.kind === 'failed') failure = event.error
      if (event.kind === 'removed') stop.abort()
    },
  })
  // It is awaited further down; until then its failure is not unheard of.
  serving.catch(() => {})
  try {
    await plugVbd(xs, { ...address, readOnly: o.readOnly, params: image, reservation })
  } catch (error) {
    stop.abort()
    await serving
    throw error
  }
  // Only a disk that this command has plugged is its to take away.
  try {
    await serving
  } finally {
    await unplugVbd(xs, address, { signal: AbortSignal.timeout(UNPLUG_TIMEOUT_MS) })
  }
  // Told of already, when it happened.
  if (failure !== undefined) process.exitCode = 1
}

function print({ kind, disk, error }: VbdEvent): void {
  const name = `${vdevName(disk.devid)} of domain ${disk.frontendDomid}`
  if (error === undefined) return console.log(`${name}: ${kind}`)
  const what = { failed: '', 'store-failed': 'the image failed a request: ', declined: 'left to other backends: ' }[kind]
  console.error(`${name}: ${what}${error instanceof Error ? error.message : String(error)}`)
}

/** Where Linux lists its own block backend. It answers every disk of its domain at once. */
const KERNEL_BACKEND = '/sys/bus/xen-backend/drivers/vbd'

async function expectNoKernelBackend({ name }: Hypervisor): Promise<void> {
  const loaded = await access(KERNEL_BACKEND).then(
    () => true,
    () => false,
  )
  if (name === 'xen' && loaded) throw new UsageError("the kernel's own block backend takes every disk first: unload it with modprobe -r xen-blkback")
}

function vdevArgument(vdev: string): number {
  try {
    return parseVdev(vdev)
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}
