/** What the checks of all features use: the server, the guest, and its disks. */
import type { Dom0 } from '../../src/dom0/dom0.ts'
import type { RemoteProcess } from '../../src/dom0/remote-process.ts'
import type { Guest } from '../../src/guest/guest.ts'
import type { Stack } from '../../src/stack.ts'
import type { Feature } from './features.ts'

/** Shows one feature: runs `work` and prints the text that `work` returns. */
export type Row = (feature: Feature, work: () => Promise<string>) => Promise<void>

export interface Rig {
  readonly stack: Stack
  readonly dom0: Dom0
  readonly guest: Guest
  /** Version of the guest's kernel. */
  readonly linux: string
  readonly server: RemoteProcess
  /** Attaches a disk by xl, runs `work`, and detaches the disk. */
  withDisk(
    vdev: string,
    target: string,
    work: (device: string) => Promise<string>,
    access?: 'r',
  ): Promise<string>
  /** The server's statistics per disk. */
  stats(): Promise<Record<string, Record<string, number | string>>>
}

/** A disk in xl's configuration syntax. `target` tells lab/dom0/vbd/main.ts how to serve it. */
export const line = (vdev: string, target: string, access = 'w'): string =>
  `vdev=${vdev},access=${access},script=/bin/true,target=${target}`

/**
 * Disks that the guest has throughout, each on another data path. Other disks are attached for a
 * single feature.
 */
export const disks = { xvda: 'copy:file', xvdb: 'persistent:sparse', xvdc: 'map:memory' }

export const digest = (file: string): string => `sha256sum < ${file}`
/** Shell command that drops the caches of the guest's kernel. */
export const forget = 'echo 3 > /proc/sys/vm/drop_caches'
export const queue = (guest: Guest, vdev: string, name: string): Promise<string> =>
  guest.run(`cat /sys/block/${vdev}/queue/${name}`)
/** Returns what blkfront logged when the disk last connected. */
export const dmesg = async (guest: Guest, vdev: string): Promise<string> =>
  (await guest.run(`dmesg | grep 'blkfront: ${vdev}:' | tail -n 1`)).replace(/^.*blkfront: /, '')
