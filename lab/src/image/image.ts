/**
 * The image that the lab boots. It is built on first use and cached under a hash of its inputs, so
 * it is rebuilt exactly when one of them changes. A finished image is moved into the cache by a
 * rename: an interrupted build leaves no image.
 */
import { existsSync, rmSync } from 'node:fs'
import { link, mkdir, mkdtemp, readdir, rename, rm, stat, utimes } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { atExit } from '../at-exit.ts'
import { cache, lab } from '../paths.ts'
import { type Debian, OLDEST, releases } from './debian.ts'
import { buildDom0Disk, buildDom0Initrd } from './dom0.ts'
import { buildGuestInitrd } from './guest.ts'
import { hashInputs } from './inputs.ts'
import { extractKernel, extractXen } from './kernel.ts'
import { indexModules, type KernelTree } from './modules.ts'
import { downloadPackages, resolvePackages, unpack } from './packages.ts'

/** Number of images to keep in the cache, each 560 MB. */
const IMAGES_KEPT = 4

/** Paths of the image's parts. */
export interface Image {
  readonly xen: string
  readonly kernel: string
  readonly dom0Initrd: string
  readonly dom0Disk: string
}

const partsIn = (directory: string): Image => ({
  xen: join(directory, 'xen'),
  kernel: join(directory, 'vmlinux'),
  dom0Initrd: join(directory, 'dom0-initrd'),
  dom0Disk: join(directory, 'dom0.ext4'),
})

/** Whether a package contains the hypervisor or a kernel. */
const isBoot = (path: string): boolean => /^(linux-image|xen-hypervisor)-\d/.test(basename(path))

/**
 * Opens the image of a release for the current sources; builds it if necessary. `say` is called
 * with messages about a build.
 */
export async function openImage(debian: Debian, say: (text: string) => void): Promise<Image> {
  const packages = { own: await resolvePackages(debian), oldest: await resolvePackages(OLDEST) }
  const files = [
    process.execPath,
    import.meta.dirname,
    join(lab, 'guest'),
    join(lab, 'dom0/init.sh'),
    join(lab, 'dom0/initrd-init.sh'),
    join(lab, 'dom0/cpu-time.c'),
  ]
  const words = [`debian ${debian}`, ...packages.own, ...packages.oldest]
  const directory = join(cache, `image-${await hashInputs({ files, words })}`)
  if (!existsSync(directory)) {
    const begun = performance.now()
    say(`building the image: Xen, dom0 and guest from packages of Debian ${debian}`)
    await build(debian, packages, directory)
    say(`image built in ${((performance.now() - begun) / 1000).toFixed(1)} s: ${directory}`)
    await dropUnused()
  }
  await utimes(directory, new Date(), new Date())
  return partsIn(directory)
}

/** An unpacked kernel: the directory of its modules, and the path of its bootable file. */
interface Kernel extends KernelTree {
  readonly vmlinux: string
}

interface Packages {
  readonly own: readonly string[]
  /** Packages of the release that provides a kernel for guests only. */
  readonly oldest: readonly string[]
}

async function build(debian: Debian, packages: Packages, directory: string): Promise<void> {
  await mkdir(cache, { recursive: true })
  const work = await mkdtemp(join(cache, 'building-'))
  const discard = (): void => rmSync(work, { recursive: true, force: true })
  const forget = atExit(discard)
  try {
    const result = join(work, 'image')
    await mkdir(result)
    const parts = partsIn(result)
    const downloaded = await downloadPackages(debian, packages.own)
    const kernel = await openKernel(downloaded, join(work, 'boot'), parts.kernel)
    await extractXen(kernel.directory, parts.xen)

    const dom0 = join(work, 'dom0')
    await unpack(
      downloaded.filter((path) => !isBoot(path)),
      dom0,
    )
    const busybox = join(dom0, 'bin/busybox')
    await buildDom0Initrd({
      kernel,
      busybox,
      work: join(work, 'dom0-initrd'),
      target: parts.dom0Initrd,
    })
    const old = await downloadPackages(OLDEST, packages.oldest)
    const oldest = await openKernel(old, join(work, 'oldest'), join(work, 'vmlinux-oldest'))
    for (const [name, from] of Object.entries({ own: kernel, oldest })) {
      const target = join(dom0, 'guest', name)
      await mkdir(target, { recursive: true })
      await link(from.vmlinux, join(target, 'vmlinux'))
      const tree = join(work, `guest-${name}`)
      const initrd = join(target, 'initrd')
      await buildGuestInitrd({ packages: dom0, kernel: from, work: tree, target: initrd })
    }
    await buildDom0Disk({
      tree: dom0,
      kernel,
      xenVersion: releases[debian].xen,
      target: parts.dom0Disk,
    })
    await rename(result, directory).catch((error: unknown) => {
      // Another lab process may have built the same image in the meantime.
      if (!existsSync(directory)) throw error
    })
  } finally {
    discard()
    forget()
  }
}

/**
 * Unpacks a kernel's package into its own directory, because only a few of its modules go into the
 * image.
 */
async function openKernel(
  packages: readonly string[],
  directory: string,
  vmlinux: string,
): Promise<Kernel> {
  await unpack(packages.filter(isBoot), directory)
  const kernel = { directory, version: await extractKernel(directory, vmlinux), vmlinux }
  await indexModules(kernel)
  return kernel
}

/**
 * Removes all images except the most recently used ones. More than one is kept, because another
 * checkout may be about to boot another image.
 */
async function dropUnused(): Promise<void> {
  const paths = (await readdir(cache))
    .filter((name) => name.startsWith('image-'))
    .map((name) => join(cache, name))
  const images = await Promise.all(
    paths.map(async (path) => ({ path, used: (await stat(path)).mtimeMs })),
  )
  const unused = images.toSorted((a, b) => b.used - a.used).slice(IMAGES_KEPT)
  await Promise.all(unused.map(({ path }) => rm(path, { recursive: true, force: true })))
}
