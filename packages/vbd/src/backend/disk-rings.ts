/**
 * Serves the rings of disks in worker threads. A store object can't be sent to another thread, so
 * each worker opens a store of its own.
 */
import { packError, type RingHost, unlessAborted } from '@xenkit/backend'
import type { BlockStore, OpenSharedStore, SharedStore } from '@xenkit/block-store'
import type { FrontendRings } from '../nodes.ts'
import { connectRings } from './connect.ts'
import type { DataPathKind } from './data-path.ts'
import { type Limits, type SharedLimits, sharedLimits } from './limits.ts'
import { VbdCounters } from './stats.ts'

/** Configuration that a worker needs to serve rings of a disk. */
export interface DiskRingsConfig {
  readonly domid: number
  /** The frontend's rings that the worker serves. */
  readonly frontend: FrontendRings
  readonly store: Pick<SharedStore, 'module' | 'data'>
  readonly limits: SharedLimits
  readonly dataPath: DataPathKind
  /** Shared memory for the worker's `VbdCounters`. */
  readonly numbers: Float64Array
}

/**
 * Connects rings of disks in a worker: pass it to `serveRings` under the name `vbd`. Errors of the
 * store are sent to the server's thread.
 */
export const diskRings: RingHost<DiskRingsConfig> = {
  async connect(hv, config, o) {
    const limits = sharedLimits(config.limits)
    return connectRings(hv, {
      ...o,
      ...config,
      store: await unlessAborted(openShared(config.store, limits), o.abandon),
      limits,
      counters: new VbdCounters(config.numbers),
      storeFailed: (error) => o.tell(packError(error)),
    })
  },
}

/**
 * Opens the store of a disk by its module.
 *
 * @throws TypeError for a module without a default export, or if the store lacks an operation that
 *   the guest was offered: a missing flush would seem to succeed
 */
async function openShared(
  { module, data }: DiskRingsConfig['store'],
  limits: Limits,
): Promise<BlockStore> {
  const loaded: unknown = await import(module)
  if (!isStoreModule(loaded)) {
    throw new TypeError(
      `the module "${module}" of a shared store expected a function as its default export`,
    )
  }
  const store = await loaded.default(data, limits)
  const missing = (['write', 'flush', 'discard'] as const).find(
    (call) => limits[call === 'write' ? 'writable' : call] && !store[call],
  )
  if (missing) {
    throw new TypeError(
      `the module "${module}" of a shared store made one without "${missing}", which the store itself has`,
    )
  }
  return store
}

const isStoreModule = (module: unknown): module is { readonly default: OpenSharedStore } =>
  typeof module === 'object' &&
  module !== null &&
  'default' in module &&
  typeof module.default === 'function'
