/** `xenkit sim PROGRAM`: runs a backend program against a simulated guest, which puts its disk to the test. */
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Worker } from 'node:worker_threads'
import { DOMAIN_KEY } from '../open-hypervisor.ts'
import { plugMachine } from '../sim/machine.ts'
import { runGuest } from '../sim/run-guest.ts'
import { UsageError } from './usage-error.ts'

export interface SimOptions {
  readonly writes: number
  readonly seed: number
}

export async function sim(program: string, args: readonly string[], o: SimOptions): Promise<void> {
  await using plugged = await plugMachine({ seed: o.seed })
  const handle = plugged.dom0.handle()
  const backend = new Worker(pathToFileURL(resolve(program)), {
    argv: [...args],
    execArgv: [...process.execArgv, ...typescriptLoader(program)],
    workerData: { [DOMAIN_KEY]: handle },
    transferList: handle.transferList,
  })
  try {
    const ended = new Promise<never>((_, reject) => {
      backend.once('error', reject)
      backend.once('exit', (code) => reject(new Error(`"${program}" ended with code ${code} before the guest was done`)))
    })
    const result = await Promise.race([ended, runGuest({ guest: plugged.guest, vdev: plugged.vdev, ...o })])
    console.log(`guest: read ${result.sectors} sectors of ${plugged.vdev}, sha256 ${result.sha256}`)
    if (result.readOnly) console.log('guest: the disk is read-only, nothing was written')
    else console.log(`guest: ${result.verifiedWrites} random writes read back as written, sha256 now ${result.sha256AfterWrites ?? result.sha256}`)
  } finally {
    await backend.terminate()
  }
}

/** Node before 22.18 doesn't read TypeScript: tsx does, if it is installed beside the program. */
function typescriptLoader(program: string): string[] {
  if (!/\.[cm]?ts$/.test(program) || process.execArgv.some((arg) => arg.includes('tsx'))) return []
  try {
    return ['--import', pathToFileURL(createRequire(resolve(program)).resolve('tsx')).href]
  } catch {
    throw new UsageError(`"${program}" is TypeScript: install tsx beside it with "npm install tsx"`)
  }
}
