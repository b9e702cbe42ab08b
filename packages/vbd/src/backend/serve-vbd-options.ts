/** What a program says to `serveVbd`. */
import type { ServeOptions, Workers } from '@xenkit/backend'
import type { BlockStore } from '@xenkit/block-store'
import type { RequestedDisk, VbdBackendType } from '../requested-disk.ts'
import type { DataPathKind } from './data-path.ts'
import type { VbdEvent } from './vbd-event.ts'

/** Options of `serveVbd`. See `ServeOptions` for `xs`, `reservation`, `signal` and `abandonMs`. */
export interface ServeVbdOptions extends ServeOptions {
  /**
   * The store to serve, or a function that chooses one for each disk. A single store serves the
   * first disk. Later ones are declined while at least one of the two disks is writable: two guests
   * writing to one image would destroy it.
   *
   * If the function throws, or returns a store that another disk uses, its disk is closed for good.
   * For a CD-ROM drive it is called again for each medium.
   */
  readonly store: BlockStore | StoreFunction
  /**
   * Called with each store that the function returned, once no disk of this server uses it: close
   * it here.
   */
  readonly release?: (store: BlockStore) => void | Promise<void>
  /**
   * Backend types whose disks this server takes. Default: `vbd` alone. Add another type only if its
   * usual server, tapback or QEMU, doesn't run: both would serve the same disks.
   */
  readonly backendTypes?: readonly VbdBackendType[]
  /**
   * How data moves, default `copy`. With `map` and `persistent` a store works on the guest's own
   * pages: the guest can change data while it is written, and see it while it is read. Don't use
   * them with a store that reads data twice, for a checksum or a mirror. With `map`, data of writes
   * is copied unless the store's `write` has `leavesBuffers`. With `persistent`, frontends without
   * that feature are served by `copy`.
   */
  readonly dataPath?: DataPathKind
  /**
   * Workers for the rings of disks whose store can be shared. Each ring goes to the worker that
   * serves fewest. Rings of other disks are served in this thread. Default: all rings are.
   */
  readonly workers?: Workers
  /**
   * Called with each event. Default: `eventLog()`, which prints failures to stderr. An error that
   * the listener throws becomes an uncaught exception, and doesn't affect the disk.
   */
  readonly onEvent?: (event: VbdEvent) => void
}

/**
 * A store function's answer for a disk: a store, `decline` to leave the disk to other backends, or
 * `no-medium` for an empty CD-ROM drive.
 */
export type StoreAnswer = BlockStore | 'decline' | 'no-medium'

/** Chooses the store of each disk that a toolstack gives to this domain. */
export type StoreFunction = (disk: RequestedDisk) => StoreAnswer | Promise<StoreAnswer>
