/**
 * Property: jobs that don't overlap run concurrently, and leave the file and the memory as a model
 * of both predicts.
 */
import {
  closeSync,
  constants,
  fsyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { kinds, operations, TestEngine, type Job } from './block-engine.ts'

const directory = mkdtempSync(join(tmpdir(), 'xenkit-'))
const inMemory = mkdtempSync('/dev/shm/xenkit-')
const MEMORY = 1 << 18

afterAll(() => {
  for (const made of [directory, inMemory]) rmSync(made, { recursive: true })
})

/**
 * The alignment that direct transfers need, in bytes; 0 if the file system has no direct transfers.
 */
function directUnit(): number {
  const path = join(directory, 'probe')
  writeSync(openSync(path, 'w'), Buffer.alloc(8192))
  const page = new Uint8Array(new SharedArrayBuffer(4096, { maxByteLength: 4096 }))
  for (const unit of [512, 4096]) {
    try {
      const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECT)
      readSync(fd, page, 0, unit, unit)
      closeSync(fd)
      return unit
    } catch {}
  }
  return 0
}

const unit = directUnit()
const places = [
  { name: 'a file', path: join(directory, 'image'), flags: 0, unit: 1 },
  { name: 'a file in memory', path: join(inMemory, 'image'), flags: 0, unit: 1 },
  ...(unit > 0
    ? [
        {
          name: 'a file read and written directly',
          path: join(directory, 'direct'),
          flags: constants.O_DIRECT,
          unit,
        },
      ]
    : []),
]

interface Wish {
  readonly operation: keyof typeof operations
  /** Position in the file and lengths of the parts, in units of the test's alignment. */
  readonly at: number
  readonly parts: readonly number[]
  /** Units of memory between the parts. */
  readonly gap: number
}

const wishes = fc.array(
  fc.record<Wish>({
    operation: fc.constantFrom(
      'read',
      'read',
      'write',
      'write',
      'flush',
      'discard',
      'write-zeroes',
    ),
    at: fc.nat(48),
    parts: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 12 }),
    gap: fc.nat(2),
  }),
  { minLength: 1, maxLength: 24 },
)

/**
 * Turns wishes into jobs, and drops a wish that shares a byte of the file with an earlier one. Each
 * job gets its own range of memory. All bytes past the file's end count as one, because a write
 * there affects every read there.
 */
function toJobs(wished: readonly Wish[], file: number, scale: number, size: number): Job[] {
  const taken: [number, number][] = []
  const jobs: Job[] = []
  let free = 0
  for (const { operation, at, parts, gap } of wished) {
    const length = parts.reduce((sum, part) => sum + part, 0) * scale
    const [from, to] = [at * scale, at * scale + length]
    if (operation === 'flush') {
      jobs.push({ file, operation })
      continue
    }
    const touched: [number, number] = to > size ? [Math.min(from, size), Infinity] : [from, to]
    if (taken.some(([start, end]) => touched[0] < end && start < touched[1])) continue
    taken.push(touched)
    if (operation === 'discard' || operation === 'write-zeroes') {
      jobs.push({ file, operation, position: from, length })
    } else {
      const vectors = parts.map((part) => {
        const vector = [free, part * scale] as const
        free += (part + gap) * scale
        return vector
      })
      jobs.push({
        file,
        operation,
        position: from,
        vectors: at % 2 === 0 ? vectors : vectors.toReversed(),
      })
    }
  }
  return jobs
}

/** The expected contents of the file and of the memory, and each job's effect on them. */
class Model {
  content: Buffer
  readonly memory: Buffer

  constructor(content: Buffer, memory: Buffer) {
    this.content = content
    this.memory = memory
  }

  /**
   * @param seen the memory after the job: a read past the file's end leaves undefined bytes there
   * (zeros, if the file is read directly)
   */
  run({ operation, position = 0, length = 0, vectors = [] }: Job, seen: Uint8Array): number {
    const size = this.content.length
    if (operation === 'discard' || operation === 'write-zeroes') {
      this.content.fill(0, Math.min(position, size), Math.min(position + length, size))
    }
    let moved = 0
    for (const [offset, bytes] of vectors) {
      const at = position + moved
      if (operation === 'write') {
        if (at + bytes > this.content.length) {
          this.content = Buffer.concat([
            this.content,
            Buffer.alloc(at + bytes - this.content.length),
          ])
        }
        this.memory.copy(this.content, at, offset, offset + bytes)
        moved += bytes
      } else {
        const part = Math.max(0, Math.min(bytes, size - at))
        if (part > 0) this.content.copy(this.memory, offset, at, at + part)
        this.memory.set(seen.subarray(offset + part, offset + bytes), offset + part)
        moved += part
      }
    }
    return moved
  }
}

describe.each(kinds)('with %s', (kind) => {
  test.each(places)('$name', async ({ path, flags, unit: scale }) => {
    await using engine = new TestEngine({ bytes: MEMORY, kind })
    await fc.assert(
      fc.asyncProperty(
        fc.array(wishes, { minLength: 1, maxLength: 5 }),
        fc.integer({ min: 0, max: 120 }),
        fc.integer({ min: 1 }),
        async (batches, size, seed) => {
          const start = openSync(path, 'w')
          const content = Buffer.from(
            Uint8Array.from({ length: size * scale }, (_, at) => (at * seed) >>> 3),
          )
          writeSync(start, content)
          fsyncSync(start)
          closeSync(start)
          const fd = openSync(path, constants.O_RDWR | flags)
          const file = engine.engine.open(fd)
          closeSync(fd)
          engine.memory.forEach((_, at, memory) => (memory[at] = (at * 7 + seed) >>> 2))
          const model = new Model(content, Buffer.from(engine.memory))
          for (const wished of batches) {
            const jobs = toJobs(wished, file, scale, model.content.length)
            const outcomes = await engine.run(jobs)
            expect(outcomes.map(({ result }) => result)).toEqual(
              jobs.map((job) => model.run(job, engine.memory)),
            )
            expect(Buffer.compare(engine.memory, model.memory)).toBe(0)
            expect(Buffer.compare(readFileSync(path), model.content)).toBe(0)
          }
          engine.engine.release(file)
        },
      ),
      { numRuns: 40 },
    )
  })
})
