/**
 * `warmUp`: V8 compiles the code before the first guest connects, and keeps it while no guest is
 * connected.
 */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const program = join(import.meta.dirname, 'support/programs/warm-up.ts')
const flags = ['--import=tsx', '--conditions=xenkit-source', '--expose-gc']
const tracing = ['--trace-opt', '--trace-deopt']

/** Fewest functions that V8 must compile. It compiles some 60, depending on what it inlines. */
const COMPILED = 40

/** Names of functions that run for every request. */
const HOT = ['decode', 'take', 'give', 'find', 'reserve', 'fetch', 'deliver', 'release', '#answer']

const namesIn = (trace: string, pattern: RegExp): (string | undefined)[] =>
  [...trace.matchAll(pattern)].map(([, name]) => name)

test(
  'compiled code outlives two idle minutes and collections, and all is given back',
  {
    timeout: 60_000,
  },
  async () => {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [...flags, ...tracing, program],
      { timeout: 50_000, maxBuffer: 2 ** 24 },
    )
    const [warming = '', collecting = '', rest = ''] = stdout.split(/^(?:warm|collected)\n/m)
    const compiled = namesIn(warming, /completed optimizing .*?JSFunction (\S+)/g)
    expect(compiled.length).toBeGreaterThan(COMPILED)
    const dropped = namesIn(collecting, /SharedFunctionInfo ([^>]+)>.* reason: weak objects/g)
    expect(dropped.filter((name = '') => HOT.includes(name))).toEqual([])
    const open = JSON.parse(/^\{.*\}$/m.exec(rest)?.[0] ?? '') as Record<string, number>
    expect(open['meanwhile']).toBeGreaterThan(open['before'] ?? 0)
    expect(open['after']).toBe(open['before'])
  },
)
