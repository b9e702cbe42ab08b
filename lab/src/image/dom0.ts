/**
 * Builds dom0: a small initramfs that mounts the disk, and the disk with Xen's tools, Node and the
 * guests' kernels.
 */
import { chmod, cp, mkdir, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { lab } from '../paths.ts'
import { command } from '../process.ts'
import { compile } from './compile.ts'
import { busyboxTree, linkApplets, packInitrd } from './initrd.ts'
import { type KernelTree, copyModules } from './modules.ts'

const IMAGE_BYTES = 1 << 30

/**
 * Kernel modules for dom0. Only scenarios load xen-blkback, xen-netback, loop and brd. Otherwise
 * nothing but the lab's own programs serves a vbd or a vif.
 */
const modules = [
  'xen-blkback',
  'loop',
  'brd',
  'xen-netback',
  'tun',
  'bridge',
  'veth',
  'virtio_console',
  'virtio_rng',
  '9p',
  '9pnet_virtio',
  'xen-gntdev',
  'xen-gntalloc',
  'xen-evtchn',
  'xen-privcmd',
  'xenfs',
]

export async function buildDom0Initrd(o: {
  readonly kernel: KernelTree
  readonly busybox: string
  readonly work: string
  readonly target: string
}): Promise<void> {
  await busyboxTree(o.work, { busybox: o.busybox, init: join(lab, 'dom0/initrd-init.sh') })
  await copyModules(o.kernel, ['virtio_pci', 'virtio_blk', 'crc32c_generic', 'ext4'], o.work)
  await packInitrd(o.work, o.target)
}

/**
 * Completes `tree`, the unpacked packages, and makes an ext4 image of it. Needs no root, because
 * nothing is mounted.
 */
export async function buildDom0Disk(o: {
  readonly tree: string
  readonly kernel: KernelTree
  readonly xenVersion: string
  readonly target: string
}): Promise<void> {
  const at = (path: string): string => join(o.tree, path)
  await copyModules(o.kernel, modules, o.tree)
  await linkApplets(o.tree)
  for (const path of [
    'proc',
    'sys',
    'dev',
    'run',
    'tmp',
    'root',
    'lab',
    'etc',
    'var/log/xen',
    'var/lib/xen',
    'usr/bin',
  ]) {
    await mkdir(at(path), { recursive: true })
  }

  await cp(process.execPath, at('usr/bin/node'), { dereference: true })
  await cp(join(lab, 'dom0/init.sh'), at('sbin/lab-init'))
  await chmod(at('sbin/lab-init'), 0o755)
  await compile(join(lab, 'dom0/cpu-time.c'), at('usr/bin/cpu-time'))
  await compile(join(lab, 'guest/net-bench.c'), at('usr/bin/net-bench'))

  await rm(at('var/run'), { recursive: true, force: true })
  await symlink('/run', at('var/run'))
  await symlink(`xen-${o.xenVersion}`, at('usr/lib/xen'))
  await writeFile(
    at('etc/passwd'),
    'root:x:0:0::/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n', // for passt
  )
  await writeFile(at('etc/group'), 'root:x:0:\nnogroup:x:65534:\n')
  await writeFile(
    at('etc/ld.so.conf'),
    '/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu\n/usr/lib/xen/lib/x86_64-linux-gnu\n',
  )
  await command('ldconfig', ['-r', o.tree])

  await writeFile(o.target, '')
  await truncate(o.target, IMAGE_BYTES)
  await command('mkfs.ext4', [
    '-q',
    '-F',
    '-O',
    '^has_journal',
    '-m',
    '0',
    '-E',
    'lazy_itable_init=1,root_owner=0:0',
    '-d',
    o.tree,
    o.target,
  ])
}
