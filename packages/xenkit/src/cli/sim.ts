/** `xenkit sim PROGRAM`: runs a backend program with a simulated guest, which tests its disk. */
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Worker } from 'node:worker_threads'
import { DOMAIN_KEY } from '../open-hypervisor.ts'
import { plugMachine } from '../sim/machine.ts'
import { runGuest } from '../sim/run-guest.ts'
import { isTypeScript, startThread, typescriptLoader } from '../threads/start-thread.ts'
import { UsageError, isOneLine } from './usage-error.ts'

/** Seconds from a program's start to a connected disk; the example program needs 0.1. */
const CONNECT_SECONDS = 10

export interface SimOptions {
  readonly writes: number
  readonly seed: number
}

/** @param args the program's arguments; the first `--` isn't passed on */
export async function sim(program: string, args: readonly string[], o: SimOptions): Promise<void> {
  await expectRunnable(program)
  const { machine, dom0, guest, vdev } = await plugMachine({ seed: o.seed })
  const handle = dom0.forThread()
  const separator = args.indexOf('--')
  const backend = startThread({
    module: pathToFileURL(resolve(program)).href,
    argv: args.filter((_, at) => at !== separator),
    data: { [DOMAIN_KEY]: handle },
    transferList: handle.transferList,
  })
  const stop = new AbortController()
  const late = setTimeout(
    () =>
      stop.abort(
        new UsageError(
          `"${program}" has not served ${vdev} of domain ${guest.domid} within ${CONNECT_SECONDS} s: check that it calls serveVbd`,
        ),
      ),
    CONNECT_SECONDS * 1000,
  )
  try {
    const running = runGuest({
      guest,
      vdev,
      signal: stop.signal,
      ...o,
      onReport: ({ kind }) => kind === 'attached' && clearTimeout(late),
    })
    const result = await Promise.race([failure(backend, program), running])
    console.log(`guest: read ${result.sectors} sectors of ${vdev}, sha256 ${result.sha256}`)
    if (result.verifiedWrites === 0) {
      console.log('guest: nothing was written; --writes COUNT overwrites random places')
    } else {
      console.log(
        `guest: ${result.verifiedWrites} random writes read back as written, sha256 now ${result.sha256AfterWrites ?? 'unknown'}`,
      )
    }
  } finally {
    clearTimeout(late)
    stop.abort()
    await backend.terminate()
    // Destroys all domains, whatever their threads are doing.
    await machine.close()
  }
}

async function expectRunnable(program: string): Promise<void> {
  const found = await stat(program).catch(() => undefined)
  if (!found) throw new UsageError(`program "${program}" doesn't exist: check the path`)
  if (!found.isFile()) {
    throw new UsageError(`program "${program}" is not a file: name the program itself`)
  }
}

/** Rejects when the program ends, which it must not do before the guest ends. */
function failure(backend: Worker, program: string): Promise<never> {
  return new Promise<never>((_, reject) => {
    backend.once('error', (error: NodeJS.ErrnoException) => reject(explained(error, program)))
    backend.once('exit', (code) =>
      reject(new UsageError(`"${program}" ended with code ${code} before the guest was done`)),
    )
  })
}

function explained(error: NodeJS.ErrnoException, program: string): Error {
  const advice = loadingAdvice(error, program)
  if (advice !== undefined) return new UsageError(`"${program}" can't be loaded: ${advice}`)
  return isOneLine(error) ? new UsageError(`"${program}" failed: ${error.message}`) : error
}

/** Error codes of Node for TypeScript that it can't load without tsx. */
const NEEDS_LOADER = [
  'ERR_UNKNOWN_FILE_EXTENSION',
  'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX',
  'ERR_INVALID_TYPESCRIPT_SYNTAX',
]
/**
 * Error codes of Node and tsx for a program that they load as CommonJS although it is an ES module.
 */
const NOT_A_MODULE = ['ERR_REQUIRE_CYCLE_MODULE', 'ERR_REQUIRE_ASYNC_MODULE']
const NOT_A_MODULE_TEXT = /Top-level await .* not supported with the "cjs"|outside a module/
/**
 * The first Node version with `await using`: Node strips types, but doesn't translate newer syntax.
 */
const NODE_WITH_USING = 24

function loadingAdvice(error: NodeJS.ErrnoException, program: string): string | undefined {
  const { name, code = '', message } = error
  if (NOT_A_MODULE.includes(code) || NOT_A_MODULE_TEXT.test(message)) {
    return 'Node takes it for CommonJS: run "npm pkg set type=module" in its folder, or name it .mts or .mjs'
  }
  const url = pathToFileURL(resolve(program)).href
  if (!isTypeScript(url) || typescriptLoader(url) !== undefined) return undefined
  const major = Number.parseInt(process.versions.node)
  const isTooOld = name === 'SyntaxError' && major < NODE_WITH_USING
  if (!isTooOld && !NEEDS_LOADER.includes(code)) return undefined
  return `Node ${process.versions.node} can't read its TypeScript: run "npm install tsx" in its folder`
}
