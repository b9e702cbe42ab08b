/** Builds the guest: an initramfs with busybox, blkfront, ext4 and our I/O benchmark. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { lab } from '../paths.ts'
import { command } from '../process.ts'
import { busyboxTree, packInitrd } from './initrd.ts'
import { type KernelTree, copyModules } from './modules.ts'
import { copyProgram, linkInterpreter } from './shared-libraries.ts'

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
  await copyModules(o.kernel, ['xen-blkfront', 'crc32c_generic', 'ext4'], o.work)
  await linkInterpreter(o.work)
  await copyProgram({ from: o.packages, to: o.work }, 'sbin/mkfs.ext4')
  await mkdir(join(o.work, 'usr/bin'), { recursive: true })
  await command('gcc', [
    '-O2',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-static',
    '-o',
    join(o.work, 'usr/bin/io-bench'),
    join(lab, 'guest/io-bench.c'),
  ])
  await packInitrd(o.work, o.target)
}
