/** `xenkit disk serve` and `xenkit disk attach`. */
import { resolve } from 'node:path'
import {
  type RequestedDisk,
  type StoreFunction,
  type VbdBackendType,
  eventLog,
  parseVdev,
  plugVbd,
  unplugVbd,
  serveVbd,
} from '@xenkit/vbd'
import { openXenstore } from '@xenkit/xenstore-client'
import { openFileStore } from '../open-file-store.ts'
import { openHypervisor } from '../open-hypervisor.ts'
import { openWorkers } from '../open-workers.ts'
import { warmUp } from '../warm-up.ts'
import { Abandoned, attach } from './attach.ts'
import { expectNoKernelBackend } from './expect-no-kernel-backend.ts'
import { Images, type ImagesOptions } from './images.ts'
import { interrupted } from './interrupted.ts'
import { UsageError } from './usage-error.ts'

export interface ServeOptions extends ImagesOptions {
  readonly backendTypes: readonly VbdBackendType[]
  /** Serve the disks of this domain only. */
  readonly domid?: number
  /** Serve the disks of this name only. */
  readonly vdev?: string
  readonly workers: number
}

/**
 * Serves the disks that a toolstack gives to this domain, until interrupted. All use the given
 * image, or each uses the image that its own configuration names.
 */
export async function diskServe(image: string | undefined, o: ServeOptions): Promise<void> {
  const { domid, backendTypes, workers, readOnly, locking, format } = o
  const devid = o.vdev === undefined ? undefined : parseVdev(o.vdev)
  const imageOptions = { readOnly, locking, ...(format && { format }) }
  const given = image === undefined ? undefined : openFileStore(image, imageOptions)
  await using store = await given
  await using hv = await openHypervisor()
  if (backendTypes.includes('vbd')) await expectNoKernelBackend(hv, 'vbd')
  await using _compiled = await warmUp(hv)
  const images = new Images(o)
  const wanted = (disk: RequestedDisk): boolean =>
    (domid ?? disk.frontendDomid) === disk.frontendDomid && (devid ?? disk.devid) === disk.devid
  const chosen: StoreFunction = (disk) => (wanted(disk) ? (store ?? images.store(disk)) : 'decline')
  const anyDisk = domid === undefined && devid === undefined
  console.log(
    `serving ${store ? `${store.path}, ${store.sectors} sectors` : 'the image that each disk names'}; waiting for a disk`,
  )
  await using pool = await openWorkers(hv, { count: workers })
  const abandoned = new Abandoned()
  await serveVbd(hv, {
    store: anyDisk && store ? store : chosen,
    release: images.release,
    backendTypes,
    workers: pool,
    signal: interrupted(),
    onEvent(event) {
      print(event)
      abandoned.note(event)
    },
  })
  abandoned.exitIfAny()
}

export interface AttachOptions extends ImagesOptions {
  readonly cdrom: boolean
  readonly workers: number
}

/**
 * Plugs a disk into a running domain and serves it, until the disk is unplugged or the command is
 * interrupted. An interrupted command unplugs the disk.
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
  // Open the image once now, so that its errors are reported before anything is plugged.
  if (image !== undefined) await (await openFileStore(image, imageOptions)).close()
  await using hv = await openHypervisor()
  await expectNoKernelBackend(hv, 'vbd')
  await using workers = await openWorkers(hv, { count: o.workers })
  await using _compiled = await warmUp(hv)
  using xs = await openXenstore(hv.xenstore)
  const address = { frontendDomid: domid, backendDomid: hv.domid, vdev }
  const abandoned = new Abandoned()
  await attach({
    xs,
    domid,
    serve: ({ onEvent, ...o }) =>
      serveVbd(hv, {
        ...new Images(imageOptions),
        ...o,
        xs,
        workers,
        onEvent(event) {
          print(event)
          abandoned.note(event)
          onEvent(event)
        },
      }),
    plug: (reservation) =>
      plugVbd(xs, {
        ...address,
        readOnly,
        cdrom: o.cdrom,
        params: image === undefined ? '' : resolve(image),
        reservation,
      }),
    unplug: (o) => unplugVbd(xs, address, o),
  })
  abandoned.exitIfAny()
}

const print = eventLog((line, { failed }) => (failed ? console.error(line) : console.log(line)))
