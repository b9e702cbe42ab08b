/**
 * Packs a file tree as an initramfs. It isn't compressed, because an emulated processor inflates
 * more slowly than it copies.
 */
import { chmod, cp, mkdir, readdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { command } from '../process.ts'

/** Creates a tree whose `/init` is `init`, and whose commands are all busybox applets. */
export async function busyboxTree(
  tree: string,
  o: { readonly busybox: string; readonly init: string },
): Promise<void> {
  for (const name of ['bin', 'sbin', 'proc', 'sys', 'dev', 'run', 'tmp', 'mnt', 'etc']) {
    await mkdir(join(tree, name), { recursive: true })
  }
  await cp(o.busybox, join(tree, 'bin/busybox'))
  await linkApplets(tree)
  await cp(o.init, join(tree, 'init'))
  await chmod(join(tree, 'init'), 0o755)
}

/** Links the applets of `tree/bin/busybox`, except those for which the tree has its own program. */
export async function linkApplets(tree: string): Promise<void> {
  const directories = ['bin', 'sbin', 'usr/bin', 'usr/sbin']
  const present = new Set(
    (
      await Promise.all(directories.map((name) => readdir(join(tree, name)).catch(() => [])))
    ).flat(),
  )
  const applets = (await command(join(tree, 'bin/busybox'), ['--list'])).split('\n').filter(Boolean)
  await Promise.all(
    applets
      .filter((name) => !present.has(name))
      .map((name) => symlink('/bin/busybox', join(tree, 'bin', name))),
  )
}

/** Packs the tree in the `newc` format. Every file belongs to root, whoever builds. */
export async function packInitrd(tree: string, target: string): Promise<void> {
  await command(
    'sh',
    ['-c', 'find . | cpio --create --format=newc --owner=0:0 --quiet > "$1"', 'sh', target],
    { cwd: tree },
  )
}
