/** Starts a module on its own thread. */
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { type TransferListItem, Worker } from 'node:worker_threads'

/** Options of `startThread`. */
export interface ThreadOptions {
  /** URL of the module that the thread runs, JavaScript or TypeScript. */
  readonly module: string
  /** The thread's workerData, to which `module` is added. */
  readonly data: object
  readonly transferList: TransferListItem[]
  readonly argv?: string[]
}

/** Starts the thread. tsx loads TypeScript, if tsx is installed. */
export const startThread = ({ module, data, transferList, argv = [] }: ThreadOptions): Worker =>
  new Worker(new URL(import.meta.resolve('xenkit/thread')), {
    argv,
    workerData: { ...data, module, loader: typescriptLoader(module) },
    transferList,
  })

export const isTypeScript = (module: string): boolean => /\.[cm]?ts$/.test(module)

/**
 * Returns the URL of tsx, if the module is TypeScript and tsx is installed next to it. Otherwise
 * Node loads the module itself, which Node 24 can.
 */
export function typescriptLoader(module: string): string | undefined {
  if (!isTypeScript(module)) return undefined
  try {
    // require.resolve finds tsx's CommonJS version, whose register() is broken in 4.23. The ES
    // module has the same path with another extension.
    return pathToFileURL(
      createRequire(module)
        .resolve('tsx/esm/api')
        .replace(/\.cjs$/, '.mjs'),
    ).href
  } catch {
    return undefined
  }
}
