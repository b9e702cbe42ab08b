/** `xenkit sim PROGRAM`: runs a backend program against a simulated guest, which puts its disk to the test. */
import { access } from 'node:fs/promises'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { DOMAIN_KEY } from '../open-hypervisor.ts'
import { plugMachine } from '../sim/machine.ts'
import { runGuest } from '../sim/run-guest.ts'
import { startThread } from '../sim/start-thread.ts'
import { UsageError } from './usage-error.ts'

export interface SimOptions {
  readonly writes: number
  readonly seed: number
}

export async function sim(program: string, args: readonly string[], o: SimOptions): Promise<void> {
  await expectRunnable(program)
  await using plugged = await plugMachine({ seed: o.seed })
  const handle = plugged.dom0.handle()
  const backend = startThread({
    module: pathToFileURL(resolve(program)).href,
    argv: [...args],
    data: { [DOMAIN_KEY]: handle },
    transferList: handle.transferList,
  })
  const stop = new AbortController()
  try {
    const ended = new Promise<never>((_, reject) => {
      backend.once('error', (error: NodeJS.ErrnoException) => reject(explained(error, program)))
      backend.once('exit', (code) => reject(new UsageError(`"${program}" ended with code ${code} before the guest was done`)))
    })
    const result = await Promise.race([ended, runGuest({ guest: plugged.guest, vdev: plugged.vdev, signal: stop.signal, ...o })])
    console.log(`guest: read ${result.sectors} sectors of ${plugged.vdev}, sha256 ${result.sha256}`)
    if (result.readOnly) console.log('guest: the disk is read-only, nothing was written')
    else console.log(`guest: ${result.verifiedWrites} random writes read back as written, sha256 now ${result.sha256AfterWrites ?? result.sha256}`)
  } finally {
    stop.abort()
    await backend.terminate()
  }
}

async function expectRunnable(program: string): Promise<void> {
  await access(program).catch(() => {
    throw new UsageError(`program "${program}" doesn't exist: check the path`)
  })
}

/** Node 20 doesn't read TypeScript by itself. */
function explained(error: NodeJS.ErrnoException, program: string): Error {
  if (error.code !== 'ERR_UNKNOWN_FILE_EXTENSION') return error
  return new UsageError(`"${program}" is TypeScript: install tsx beside it with "npm install tsx"`)
}
