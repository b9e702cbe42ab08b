/**
 * Compares memory images with a model: transfers by jobs and by calls, resizing, freed memory, and
 * several threads.
 */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { type Job, native, TestEngine } from './block-engine.ts'
import { until } from './fifo.ts'

const MEMORY = 1 << 16
const coded = (code: string, message = ''): unknown =>
  expect.objectContaining({ code, message: expect.stringContaining(message) as string })

afterEach(() => until(() => Object.values(native.counters()).every((count) => count === 0)))

interface Step {
  readonly kind: 'read' | 'write' | 'discard' | 'write-zeroes' | 'flush' | 'resize'
  readonly position: number
  readonly parts: readonly number[]
  /** Whether to use the image's own `read` and `write`, in place of a job of the engine. */
  readonly byCall: boolean
}

const step = fc.record<Step>({
  kind: fc.constantFrom(
    'read',
    'read',
    'write',
    'write',
    'discard',
    'write-zeroes',
    'flush',
    'resize',
  ),
  // Half of the positions are at page boundaries or next to them.
  position: fc.oneof(
    fc.nat(40_000),
    fc
      .tuple(fc.nat(9), fc.integer({ min: -1, max: 1 }))
      .map(([page, by]) => Math.max(0, page * 4096 + by)),
    fc.constantFrom(2 ** 32, 2 ** 53 - 1),
  ),
  parts: fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 1, maxLength: 6 }),
  byCall: fc.boolean(),
})

test('behaves as an array, with transfers cut short at its end', async () => {
  await using engine = new TestEngine({ bytes: MEMORY })
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: 30 }),
      fc.integer({ min: 1, max: 40_000 }),
      fc.nat(255),
      async (steps, size, seed) => {
        const image = new native.MemoryImage(size)
        const file = engine.engine.openMemory(image)
        let model = Buffer.alloc(size)
        for (const [number, { kind, position, parts, byCall }] of steps.entries()) {
          const length = parts.reduce((sum, part) => sum + part, 0)
          const there = Math.max(0, Math.min(length, model.length - position))
          if (kind === 'resize') {
            const next = Buffer.alloc(length)
            model.copy(next)
            model = next
            image.resize(length)
            continue
          }
          if (kind === 'discard' || kind === 'write-zeroes') {
            model.fill(
              0,
              Math.min(position, model.length),
              Math.min(position + length, model.length),
            )
            if (byCall) await image.discard(position, length)
            else {
              expect(await engine.run([{ file, operation: kind, position, length }])).toEqual([
                { result: 0, atOnce: true },
              ])
            }
            continue
          }
          engine.memory.forEach(
            (_, at, memory) => (memory[at] = (at * 7 + seed + number * 31) >>> 1),
          )
          const before = Buffer.from(engine.memory)
          let free = 0
          const vectors = parts.map((bytes) => [(free += bytes + 3) - bytes, bytes] as const)
          if (kind === 'flush') {
            expect(await engine.run([{ file, operation: 'flush' }])).toEqual([
              { result: 0, atOnce: true },
            ])
          } else if (byCall) {
            const views = vectors.map(([offset, bytes]) =>
              engine.memory.subarray(offset, offset + bytes),
            )
            expect(
              kind === 'read' ? image.read(position, views) : image.write(position, views),
            ).toBe(there)
          } else {
            expect(await engine.run([{ file, operation: kind, position, vectors }])).toEqual([
              { result: there, atOnce: true },
            ])
          }
          if (kind !== 'flush') {
            let at = position
            for (const [offset, bytes] of vectors) {
              if (at >= model.length) break
              if (kind === 'read') {
                model.copy(before, offset, at, Math.min(at + bytes, model.length))
              } else before.copy(model, at, offset, offset + Math.min(bytes, model.length - at))
              at += bytes
            }
          }
          expect(Buffer.compare(engine.memory, before), 'memory that no vector names').toBe(0)
        }
        const all = Buffer.alloc(model.length + 1)
        expect(image.read(0, [all])).toBe(model.length)
        expect(Buffer.compare(all.subarray(0, model.length), model)).toBe(0)
        image.close()
        engine.engine.release(file)
        expect(native.counters().images).toBe(0)
      },
    ),
    { numRuns: 200 },
  )
})

test('an image lives while an engine uses it, even if it is closed', async () => {
  await using engine = new TestEngine({ bytes: MEMORY })
  const image = new native.MemoryImage(8192)
  image.write(4096, [Buffer.from('here')])
  const file = engine.engine.openMemory(image)
  image.close()
  image.close()
  expect(native.counters().images).toBe(1)
  expect(
    await engine.run([{ file, operation: 'read', position: 4096, vectors: [[0, 4]] }]),
  ).toEqual([{ result: 4, atOnce: true }])
  expect(Buffer.from(engine.memory.subarray(0, 4)).toString()).toBe('here')
  expect(native.MemoryImage.open(image.id).read(4096, [Buffer.alloc(4)])).toBe(4)
  engine.engine.close()
})

test('jobs past the end of a truncated image end short, other jobs complete', async () => {
  await using engine = new TestEngine({ bytes: MEMORY })
  const image = new native.MemoryImage(1 << 16)
  const file = engine.engine.openMemory(image)
  const read = (position: number, at: number): Job => ({
    file,
    operation: 'read',
    position,
    vectors: [[at, 4096]],
  })
  // These jobs are described before the resize and submitted after it: the size at submission
  // counts.
  const jobs = [read(0, 0), read(6000, 4096), read(1 << 15, 8192)]
  image.resize(8192)
  expect((await engine.run(jobs)).map(({ result }) => result)).toEqual([4096, 2192, 0])
  image.close()
  engine.engine.close()
})

test('wrong arguments are refused', async () => {
  await using engine = new TestEngine({})
  const make = (bytes: number) => () => new native.MemoryImage(bytes)
  for (const bytes of [0, -1, 0.5, NaN, 2 ** 53]) {
    expect(make(bytes)).toThrow(coded('ERR_OUT_OF_RANGE', '"bytes" expected an integer 1..2^53-1'))
  }
  // This size is more than a process's address space.
  expect(make(2 ** 52)).toThrow(coded('ENOMEM', 'a memory image of 4503599627370496 bytes'))
  const image = new native.MemoryImage(4096)
  expect(() => image.resize(0)).toThrow(coded('ERR_OUT_OF_RANGE'))
  expect(() => image.read(-1, [])).toThrow(coded('ERR_OUT_OF_RANGE', '"position"'))
  expect(() => image.read(0, [new Float64Array(1) as unknown as Uint8Array])).toThrow(
    coded('InvalidArg', 'Uint8Arrays'),
  )
  expect(() => image.discard(0.5, 1)).toThrow(coded('ERR_OUT_OF_RANGE', 'discard'))
  expect(() => native.MemoryImage.open(image.id + 1)).toThrow(
    coded('ERR_OUT_OF_RANGE', 'no memory image'),
  )
  expect(() => engine.engine.openMemory({} as typeof image)).toThrow()
  const gone = new Uint8Array(4096)
  structuredClone(gone.buffer, { transfer: [gone.buffer] })
  expect(image.read(0, [gone])).toBe(0)
  image.close()
  for (const use of [
    () => image.read(0, []),
    () => image.write(0, []),
    () => image.resize(1),
    () => image.discard(0, 1),
    () => engine.engine.openMemory(image),
  ]) {
    expect(use).toThrow(coded('ERR_CLOSED'))
  }
  expect(() => native.MemoryImage.open(image.id)).toThrow(
    coded('ERR_OUT_OF_RANGE', `no memory image ${image.id} is open`),
  )
})

test('a discard in flight keeps the memory until it completes', async () => {
  const image = new native.MemoryImage(1 << 28)
  image.write(0, [Buffer.alloc(1 << 28, 1)])
  const other = native.MemoryImage.open(image.id)
  const discarded = image.discard(0, 1 << 28)
  image.close()
  await discarded
  const last = Buffer.alloc(1)
  other.read((1 << 28) - 1, [last])
  expect(last[0]).toBe(0)
  other.close()
})

describe('memory', () => {
  /**
   * Runs the script in its own process, where nothing else takes memory. The script's `grown()`
   * returns how much memory was added, in units of 16 MiB.
   */
  function run(script: string): unknown {
    const prelude = `
      import { loadNative } from ${JSON.stringify(new URL('../index.js', import.meta.url).href)}
      const native = loadNative()
      const MIB = 1 << 20
      const written = Buffer.alloc(64 * MIB, 1)
      gc()
      const before = process.memoryUsage.rss()
      const grown = () => Math.round((process.memoryUsage.rss() - before) / MIB / 16)`
    const { stdout, stderr } = spawnSync(
      process.execPath,
      ['--expose-gc', '--input-type=module', '-e', `${prelude}\n${script}`],
      { encoding: 'utf8', timeout: 20_000 },
    )
    expect(stderr).toBe('')
    return JSON.parse(stdout)
  }

  test('is taken when written, and freed when discarded, truncated and closed', () => {
    const script = `
      const image = new native.MemoryImage(2 ** 40)
      const seen = [image.read(2 ** 39, [written]), grown()]
      written.fill(1)
      image.write(2 ** 39, [written])
      image.write(0, [written])
      seen.push(grown())
      await image.discard(0, 32 * MIB)
      seen.push(grown())
      image.resize(48 * MIB)
      seen.push(grown())
      image.close()
      console.log(JSON.stringify([...seen, grown()]))`
    expect(run(script)).toEqual([1 << 26, 0, 8, 6, 1, 0])
  })

  test('is freed when its object is collected', () => {
    const script = `
      for (let i = 0; i < 20; i++) new native.MemoryImage(MIB)
      const { images } = native.counters()
      while (native.counters().images > 0) {
        gc()
        await new Promise(setImmediate)
      }
      console.log(images)`
    expect(run(script)).toBe(20)
  })
})

describe.each(['close', 'exit', 'terminate'])('a worker that ends by %s', (end) => {
  test('shares an image with this thread, and leaves nothing open when it ends', async () => {
    const image = new native.MemoryImage(1 << 20)
    image.write(9, [Buffer.from('from here')])
    const worker = new Worker(new URL('memory-worker.mjs', import.meta.url), {
      workerData: { id: image.id, end },
    })
    const exited = once(worker, 'exit')
    expect(await once(worker, 'message')).toEqual(['from here'])
    const seen = Buffer.alloc(10)
    image.read(1 << 12, [seen])
    expect(seen.toString()).toBe('from there')
    // The worker's end closes its own image and engine; this thread's stay open.
    if (end === 'terminate') await worker.terminate()
    await exited
    expect(native.counters()).toMatchObject({ images: 1, polls: 0 })
    image.close()
  })
})

test('threads copy concurrently while the image shrinks and grows', async () => {
  const image = new native.MemoryImage(1 << 20)
  const workers = [1, 2].map(
    (fill) =>
      new Worker(new URL('memory-worker.mjs', import.meta.url), {
        workerData: { id: image.id, end: 'storm', fill },
      }),
  )
  const exits = workers.map((worker) => once(worker, 'exit'))
  const results: { readonly short: number; readonly whole: number; readonly strange: number }[] = []
  for (const worker of workers) worker.once('message', (moved) => results.push(moved))
  let resizes = 0
  while (results.length < workers.length) {
    for (let i = 0; i < 50; i++) image.resize(1 + ((++resizes * 7919 * 64) & 0x1f_ffff))
    await new Promise(setImmediate)
  }
  for (const { short, whole, strange } of results) {
    expect(strange).toBe(0)
    expect(whole).toBeGreaterThan(0)
    expect(short).toBeGreaterThan(0)
  }
  expect(resizes).toBeGreaterThan(50)
  await Promise.all(exits)
  image.close()
})
