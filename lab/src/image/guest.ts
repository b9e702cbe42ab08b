/** Builds the guest: an initramfs with busybox, Xen's frontends, ext4 and our benchmarks. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { lab } from '../paths.ts'
import { compile } from './compile.ts'
import { busyboxTree, packInitrd } from './initrd.ts'
import { type KernelTree, copyModules } from './modules.ts'
import { copyProgram, linkInterpreter } from './shared-libraries.ts'

/** Kernel modules for a guest. A scenario that uses VLANs loads 8021q. */
const modules = ['xen-blkfront', 'xen-netfront', '8021q', 'crc32c_generic', 'ext4']

export async function buildGuestInitrd(o: {
  readonly packages: string
  readonly kernel: KernelTree
  readonly work: string
  readonly target: string
}): Promise<void> {
  await busyboxTree(o.work, {
    busybox: join(o.packages, 'bin/busybox'),
    init: join(lab, 'guest/init.sh'),
  })
  await copyModules(o.kernel, modules, o.work)
  await linkInterpreter(o.work)
  for (const program of ['sbin/mkfs.ext4', 'sbin/ethtool']) {
    await copyProgram({ from: o.packages, to: o.work }, program)
  }
  await mkdir(join(o.work, 'usr/bin'), { recursive: true })
  for (const name of ['io-bench', 'net-bench']) {
    await compile(join(lab, `guest/${name}.c`), join(o.work, 'usr/bin', name))
  }
  await packInitrd(o.work, o.target)
}
