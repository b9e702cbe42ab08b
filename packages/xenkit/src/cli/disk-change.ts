/**
 * `xenkit disk detach`, `resize`, `insert` and `eject`: requests about a disk that another process
 * serves.
 */
import { resolve } from 'node:path'
import {
  type ListedDisk,
  type VbdAddress,
  changeVbdMedium,
  listVbds,
  parseVdev,
  resizeVbd,
  unplugVbd,
} from '@xenkit/vbd'
import type { XenControl } from '@xenkit/xen'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { timeLimit } from './time-limit.ts'
import { UsageError } from './usage-error.ts'

/** Milliseconds to wait for a guest to release a disk, as in libxl. */
const DETACH_TIMEOUT_MS = 10_000
/** Milliseconds to wait for an answer of the process that serves the disk. */
const ANSWER_TIMEOUT_MS = 10_000

/**
 * Unplugs a disk, whichever program plugged it. A guest that uses it must release it first, unless
 * `force` is set.
 */
export async function diskDetach(
  control: XenControl,
  domid: number,
  vdev: string,
  o: { readonly force: boolean },
): Promise<void> {
  await withDisk(control, { domid, vdev }, async (xs, address) => {
    if (o.force) return unplugVbd(xs, address, { signal: AbortSignal.abort() })
    const advice = `${vdev} of domain ${domid} is still in use by its guest: unmount it there, or detach it with --force`
    await timeLimit(DETACH_TIMEOUT_MS, advice, unplugVbd(xs, address))
  })
}

/** Changes the size of a disk that another process serves. */
export async function diskResize(
  control: XenControl,
  domid: number,
  vdev: string,
  sectors: number,
): Promise<void> {
  await withDisk(control, { domid, vdev }, (xs, address, signal) =>
    resizeVbd(xs, address, { sectors, signal }),
  )
}

/** Inserts an image into a CD-ROM drive that another process serves. */
export async function diskInsert(
  control: XenControl,
  domid: number,
  vdev: string,
  image: string,
): Promise<void> {
  await changeMediumOf(control, { domid, vdev }, (format) => `${format}${resolve(image)}`)
}

/** Ejects the medium of a CD-ROM drive that another process serves. */
export async function diskEject(control: XenControl, domid: number, vdev: string): Promise<void> {
  await changeMediumOf(control, { domid, vdev }, (format) => format)
}

/**
 * @param paramsOf returns the new `params` node; called with what libxl writes before the path: an
 *   empty string, or `aio:`
 */
async function changeMediumOf(
  control: XenControl,
  which: { readonly domid: number; readonly vdev: string },
  paramsOf: (format: string) => string,
): Promise<void> {
  await withDisk(control, which, async (xs, address, signal, disk) => {
    if (!disk.cdrom) {
      throw new UsageError(`${which.vdev} of domain ${which.domid} is not a CD-ROM drive`)
    }
    await changeVbdMedium(xs, address, {
      params: paramsOf(disk.backendType === 'vbd' ? '' : 'aio:'),
      signal,
    })
  })
}

async function withDisk(
  control: XenControl,
  { domid, vdev }: { readonly domid: number; readonly vdev: string },
  act: (
    xs: XenstoreClient,
    address: VbdAddress,
    signal: AbortSignal,
    disk: ListedDisk,
  ) => Promise<void>,
): Promise<void> {
  using xs = await openXenstore(control.xenstore)
  const devid = parseVdev(vdev)
  const disk = (await listVbds(xs, control.domid)).find(
    (listed) => listed.frontendDomid === domid && listed.devid === devid,
  )
  if (!disk) {
    throw new UsageError(
      `domain ${domid} has no disk ${vdev} that this domain serves: see "xenkit disk list"`,
    )
  }
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS)
  try {
    const { backendType } = disk
    const address = { frontendDomid: domid, backendDomid: control.domid, backendType, vdev }
    await act(xs, address, signal, disk)
  } catch (error) {
    throw signal.aborted && error === signal.reason
      ? new UsageError(`the server of ${vdev} of domain ${domid} does not answer`)
      : error
  }
}
