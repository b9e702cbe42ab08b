/**
 * Images served by worker threads, which share the descriptor or memory, with the addon if it is
 * built.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'
import { type Hypervisor, openWorkers } from '../../src/index.ts'

const folder = mkdtempSync(join(tmpdir(), 'xenkit-workers-'))
afterAll(() => rmSync(folder, { recursive: true }))
const program = join(import.meta.dirname, '../support/programs/served-by-workers.ts')

test.each(['cached', 'direct', 'memory', 'wrapped'])(
  '%s: data is where it was written, requests are counted, resources released',
  { timeout: 60_000 },
  async (mode) => {
    const image = join(folder, `${mode}.img`)
    writeFileSync(image, Buffer.alloc(4 * 2 ** 20, 'xenkit'), { flush: true })
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import', 'tsx', '--conditions=xenkit-source', program, image, mode],
      { timeout: 50_000 },
    )
    const { stats, own, descriptors, released } = JSON.parse(stdout) as {
      stats: object
      own: number
      descriptors: number
      released?: boolean
    }
    expect(stats).toMatchObject({
      writes: mode === 'wrapped' ? 1024 : 1025,
      flushes: 1,
      discards: 1,
      errors: 0,
      queues: 0,
      persistentGrants: 0,
    })
    // A store with a user's own function is served by the thread that opened it.
    expect(own > 0).toBe(mode === 'wrapped')
    expect(descriptors).toBe(0)
    expect(released).toBe(mode === 'memory' ? true : undefined)
    const written = readFileSync(image)
    expect(written.length).toBe(mode === 'wrapped' ? 4 * 2 ** 20 : 2 * 2 ** 20)
    expect(
      written.subarray(4096, 511 * 4096).every((byte, i) => byte === ((i + 4096) >> 12) % 256),
    ).toBe(true)
  },
)

test("a hypervisor that can't be opened in another thread is refused", async () => {
  const hv = { name: 'sim' } as Hypervisor // an object that isn't a domain of a simulated machine
  await expect(openWorkers(hv, { count: 1 })).rejects.toThrow(
    '"hv" expected a hypervisor that openHypervisor or createDomain made',
  )
  await expect(openWorkers(hv, { count: 65 })).rejects.toThrow('"count"')
})
