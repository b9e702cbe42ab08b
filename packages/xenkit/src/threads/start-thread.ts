/** Starts a module on a thread of its own. */
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { type TransferListItem, Worker } from 'node:worker_threads'

export interface ThreadOptions {
  /** URL of the module, JavaScript or TypeScript. */
  readonly module: string
  /** What it finds in workerData, `module` beside it. */
  readonly data: object
  readonly transferList: TransferListItem[]
  readonly argv?: string[]
}

export const startThread = ({ module, data, transferList, argv = [] }: ThreadOptions): Worker =>
  new Worker(new URL(import.meta.resolve('xenkit/thread')), {
    argv,
    workerData: { ...data, module, loader: typescriptLoader(module) },
    transferList,
  })

export const isTypeScript = (module: string): boolean => /\.[cm]?ts$/.test(module)

/**
 * tsx, if the module is TypeScript and tsx is installed beside it. Else it's up to Node (24 can).
 */
export function typescriptLoader(module: string): string | undefined {
  if (!isTypeScript(module)) return undefined
  try {
    // require.resolve finds the CommonJS twin, whose register() is broken in 4.23: the ES module
    // lies beside it.
    return pathToFileURL(
      createRequire(module)
        .resolve('tsx/esm/api')
        .replace(/\.cjs$/, '.mjs'),
    ).href
  } catch {
    return undefined
  }
}
