/**
 * Commands of `xenkit` on one simulated machine, each on its own thread in place of a process.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Worker } from 'node:worker_threads'
import { type SimDomain, createMachine } from '@xenkit/sim'
import { expect } from 'vitest'
import { DOMAIN_KEY } from '../../src/open-hypervisor.ts'

const thread = new URL('../../src/threads/thread.mjs', import.meta.url)
const main = pathToFileURL(join(import.meta.dirname, '../../src/cli/main.ts')).href
const loader = pathToFileURL(
  createRequire(import.meta.url)
    .resolve('tsx/esm/api')
    .replace(/\.cjs$/, '.mjs'),
).href

export interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** A command that runs. */
export class Command {
  readonly ended: Promise<Outcome>
  readonly #worker: Worker
  #stdout = ''
  #stderr = ''
  #heard = (): void => {}

  /** @param module URL of the program; default: the `xenkit` command */
  constructor(domain: SimDomain, args: readonly string[], module = main) {
    const handle = domain.forThread()
    const worker = new Worker(thread, {
      argv: [...args],
      execArgv: ['--conditions=xenkit-source'],
      workerData: { module, loader, [DOMAIN_KEY]: handle },
      transferList: handle.transferList,
      stdout: true,
      stderr: true,
    })
    this.#worker = worker
    worker.stdout.on('data', (text: Buffer) => {
      this.#stdout += text.toString()
      this.#heard()
    })
    worker.stderr.on('data', (text: Buffer) => (this.#stderr += text.toString()))
    this.ended = new Promise((resolve, reject) => {
      worker.once('error', reject)
      worker.once('exit', (code) => resolve({ code, stdout: this.#stdout, stderr: this.#stderr }))
    })
  }

  /** Ends the command as SIGKILL does. */
  async kill(): Promise<void> {
    await this.#worker.terminate()
  }

  /** Resolves once the command has printed the text; rejects if the command ends without it. */
  says(text: RegExp): Promise<void> {
    const heard = new Promise<void>((resolve) => {
      this.#heard = () => text.test(this.#stdout) && resolve()
      this.#heard()
    })
    const silent = this.ended.then(({ code, stdout, stderr }) => {
      if (!text.test(stdout)) throw new Error(`ended with ${code}: ${stdout}${stderr}`)
    })
    return Promise.race([heard, silent])
  }
}

/** @param group the group of commands: `disk` or `net` */
export async function machine(group: string) {
  const simulated = createMachine()
  const dom0 = simulated.createDomain()
  const guest = simulated.createDomain()
  const start = (...args: string[]): Command => new Command(dom0, [group, ...args])
  return {
    dom0,
    guest,
    createDomain: (): SimDomain => simulated.createDomain(),
    /** Destroys all domains, whatever their threads are doing. */
    close: () => simulated.close(),
    start,
    run: (...args: string[]): Promise<Outcome> => start(...args).ended,
    [Symbol.asyncDispose]: () => simulated[Symbol.asyncDispose](),
  }
}

/** Expects one line on stderr that says what is wrong, and exit code 1. */
export function expectComplaint({ code, stderr }: Outcome, says: RegExp): void {
  expect(stderr).toMatch(says)
  expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  expect(code).toBe(1)
}
