/** `xenkit disk serve` and `xenkit disk attach`. */
import { randomUUID } from 'node:crypto'
import { resolve } from 'node:path'
import type { Hypervisor } from '@xenkit/hypervisor'
import {
  DiskAbandonedError,
  type RequestedDisk,
  type StoreFunction,
  type VbdBackendType,
  type VbdEvent,
  eventLog,
  parseVdev,
  plugVbd,
  unplugVbd,
} from '@xenkit/vbd'
import { UNLOAD_KERNEL_BACKEND, hasKernelBackend } from '@xenkit/xen'
import { openXenstore } from '@xenkit/xenstore-client'
import { openFileStore } from '../open-file-store.ts'
import { openHypervisor } from '../open-hypervisor.ts'
import { serveVbd } from '../serve-vbd.ts'
import { Images, type ImagesOptions } from './images.ts'
import { interrupted } from './interrupted.ts'
import { UsageError } from './usage-error.ts'

/** The device is closed by then; this is for a xenstored that answers late. */
const UNPLUG_TIMEOUT_MS = 1_000

export interface ServeOptions extends ImagesOptions {
  readonly backendTypes: readonly VbdBackendType[]
  /** Serve this domain's disks alone. */
  readonly domid?: number
  /** Serve the disks of this name alone. */
  readonly vdev?: string
  readonly workers: number
}

/**
 * Serves an image, or those that the disks name themselves, to the disks that a toolstack gives to
 * this domain, until interrupted.
 */
export async function diskServe(image: string | undefined, o: ServeOptions): Promise<void> {
  const { domid, backendTypes, workers, readOnly, locking, format } = o
  const devid = o.vdev === undefined ? undefined : parseVdev(o.vdev)
  const imageOptions = { readOnly, locking, ...(format && { format }) }
  const given = image === undefined ? undefined : openFileStore(image, imageOptions)
  await using store = await given
  await using hv = await openHypervisor()
  await expectNoKernelBackend(hv, backendTypes)
  const images = new Images(o)
  const wanted = (disk: RequestedDisk): boolean =>
    (domid ?? disk.frontendDomid) === disk.frontendDomid && (devid ?? disk.devid) === disk.devid
  const chosen: StoreFunction = (disk) => (wanted(disk) ? (store ?? images.store(disk)) : 'decline')
  const anyDisk = domid === undefined && devid === undefined
  console.log(
    `serving ${store ? `${store.path}, ${store.sectors} sectors` : 'what each disk names'}; waiting for a disk of this domain's`,
  )
  await serveVbd(hv, {
    store: anyDisk && store ? store : chosen,
    release: images.release,
    backendTypes,
    workers,
    signal: interrupted(),
    onEvent: printAndNote,
  })
  exitIfAbandoned()
}

export interface AttachOptions extends ImagesOptions {
  readonly cdrom: boolean
  readonly workers: number
}

/**
 * Plugs a disk into a running domain and serves it until it is unplugged or this command
 * interrupted, then takes it away again.
 */
export async function diskAttach(
  domid: number,
  vdev: string,
  image: string | undefined,
  o: AttachOptions,
): Promise<void> {
  if (image === undefined && !o.cdrom) {
    throw new UsageError('name an image: only a CD-ROM drive can be empty (--cdrom)')
  }
  const readOnly = o.readOnly || o.cdrom
  const imageOptions = { readOnly, locking: o.locking, ...(o.format && { format: o.format }) }
  // What is wrong with it is told before anything is plugged.
  if (image !== undefined) await (await openFileStore(image, imageOptions)).close()
  await using hv = await openHypervisor()
  await expectNoKernelBackend(hv, ['vbd'])
  using xs = await openXenstore(hv.xenstore)
  const address = { frontendDomid: domid, backendDomid: hv.domid, vdev }
  const reservation = randomUUID()
  const stop = new AbortController()
  let failure: unknown
  const serving = serveVbd(hv, {
    ...new Images(imageOptions),
    reservation,
    workers: o.workers,
    signal: AbortSignal.any([interrupted(), stop.signal]),
    onEvent(event) {
      printAndNote(event)
      if (event.kind === 'failed') failure = event.error
      if (event.kind === 'removed') stop.abort()
      // A domain that is no more doesn't begin anew, and leaves its disk to whoever plugged it.
      if (event.kind === 'closed') {
        void xs.isDomainIntroduced(domid).then(
          (exists) => exists || stop.abort(),
          () => stop.abort(),
        )
      }
    },
  })
  // It is awaited further down; until then its failure is not unheard of.
  serving.catch(() => {})
  try {
    await plugVbd(xs, {
      ...address,
      readOnly,
      cdrom: o.cdrom,
      params: image === undefined ? '' : resolve(image),
      reservation,
    })
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
  exitIfAbandoned()
  // Told of already, when it happened.
  if (failure !== undefined) process.exitCode = 1
}

const print = eventLog((line, { failed }) => (failed ? console.error(line) : console.log(line)))

let hasAbandoned = false

function printAndNote(event: VbdEvent): void {
  print(event)
  hasAbandoned ||= event.error instanceof DiskAbandonedError
}

/** Closing an image waits for what is in flight, which for this one there is no waiting for. */
function exitIfAbandoned(): void {
  if (hasAbandoned) process.exit(1)
}

async function expectNoKernelBackend(
  { name }: Hypervisor,
  backendTypes: readonly VbdBackendType[],
): Promise<void> {
  if (name !== 'xen' || !backendTypes.includes('vbd') || !(await hasKernelBackend())) return
  const found = "the kernel's own block backend takes every disk first"
  throw new UsageError(`${found}: ${UNLOAD_KERNEL_BACKEND}`)
}
