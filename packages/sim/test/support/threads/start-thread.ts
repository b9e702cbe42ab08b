/**
 * Runs a TypeScript file of this directory on its own thread, importing the sources as tests do.
 */
import { Worker } from 'node:worker_threads'
import type { DomainHandle, SimDomain } from '../../../src/index.ts'

/** The `workerData` of a started thread. */
export interface ThreadData {
  /** Name of a file in this directory. */
  readonly file: string
  readonly domain: DomainHandle
  /** Numbers that the test passes to the file, which says what they mean. */
  readonly orders: readonly number[]
}

export interface Thread extends AsyncDisposable {
  /**
   * Returns the next message that the thread posts. Rejects if the thread fails or ends before
   * that.
   */
  next(): Promise<unknown>
  /** Resolves when the thread has ended by itself. Rejects with the error that the thread threw. */
  ended(): Promise<void>
  /** Terminates the thread in the middle of whatever it does. */
  terminate(): Promise<void>
}

export function startThread(
  file: string,
  domain: SimDomain,
  orders: readonly number[] = [],
): Thread {
  const handle = domain.forThread()
  const workerData: ThreadData = { file, domain: handle, orders }
  const worker = new Worker(new URL('on-sources.mjs', import.meta.url), {
    workerData,
    transferList: handle.transferList,
    execArgv: ['--conditions=xenkit-source'],
  })
  const exit = new Promise<number>((resolve, reject) => {
    worker.once('exit', resolve)
    worker.once('error', reject)
  })
  // Here an error of the thread is ignored: `next` and `ended` report it.
  exit.catch(() => {})
  const terminate = async (): Promise<void> => {
    await worker.terminate()
  }
  return {
    next: () =>
      Promise.race([
        new Promise((resolve) => worker.once('message', resolve)),
        exit.then((code) => Promise.reject(new Error(`the thread ended with code ${code}`))),
      ]),
    async ended() {
      const code = await exit
      if (code !== 0) throw new Error(`the thread ended with code ${code}`)
    },
    terminate,
    [Symbol.asyncDispose]: terminate,
  }
}
