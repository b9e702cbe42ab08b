/** What the rows of the table have in common. */
import type { Dom0 } from '../../src/dom0/dom0.ts'
import type { RemoteProcess } from '../../src/dom0/remote-process.ts'
import type { Guest } from '../../src/guest/guest.ts'
import type { Stack } from '../../src/stack.ts'
import type { Feature } from './features.ts'

/** Reports what a row's work found, which is its return value. */
export type Row = (feature: Feature, work: () => Promise<string>) => Promise<void>

export interface Rig {
  readonly stack: Stack
  readonly dom0: Dom0
  readonly guest: Guest
  /** Of the guest's kernel. */
  readonly linux: string
  readonly server: RemoteProcess
  /** Has xl plug a disk, and unplug it after `work`. */
  withDisk(
    vdev: string,
    target: string,
    work: (device: string) => Promise<string>,
    access?: 'r',
  ): Promise<string>
  /** What the server has counted. */
  stats(): Promise<Record<string, Record<string, number | string>>>
}

/** A disk as xl's configuration has it; `target` says how lab/dom0/vbd/main.ts is to serve it. */
export const line = (vdev: string, target: string, access = 'w'): string =>
  `vdev=${vdev},access=${access},script=/bin/true,target=${target}`

/**
 * The disks that the guest has all the time, each on another data path. The others come for a row
 * and go.
 */
export const disks = { xvda: 'copy:file', xvdb: 'persistent:sparse', xvdc: 'map:memory' }

export const digest = (file: string): string => `sha256sum < ${file}`
/** Makes the guest's kernel forget what it has read. */
export const forget = 'echo 3 > /proc/sys/vm/drop_caches'
export const queue = (guest: Guest, vdev: string, name: string): Promise<string> =>
  guest.run(`cat /sys/block/${vdev}/queue/${name}`)
/** What blkfront said of a disk when it connected. */
export const dmesg = async (guest: Guest, vdev: string): Promise<string> =>
  (await guest.run(`dmesg | grep 'blkfront: ${vdev}:' | tail -n 1`)).replace(/^.*blkfront: /, '')
