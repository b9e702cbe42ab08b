/**
 * A block engine for tests: typed arrays over its columns, and a promise for every batch of jobs.
 */
import { loadNative, type BlockEngine } from '../index.js'
import { until } from './fifo.ts'
import { newEngine } from './new-engine.mjs'
import { openTable, type OpenTable } from './open-table.mjs'

export const native = loadNative()
export const kinds = ['io_uring', 'threads'] as const
export const operations = { read: 0, write: 1, flush: 2, discard: 3, 'write-zeroes': 4 } as const

export interface Job {
  readonly file: number
  readonly operation: keyof typeof operations
  readonly position?: number
  /** Length of the range in bytes, for an operation without data. */
  readonly length?: number
  /** Offset in the engine's memory and length in bytes of each vector. */
  readonly vectors?: readonly (readonly [number, number])[]
}

export interface Outcome {
  readonly result: number
  /** Whether the job completed within the call. */
  readonly atOnce: boolean
}

export class TestEngine implements AsyncDisposable {
  readonly memory: Uint8Array
  readonly engine: BlockEngine
  readonly submit: (count: number) => number
  readonly table: OpenTable
  readonly done: Uint32Array
  /** Sizes of the batches that `onDone` reported. */
  readonly wakes: number[] = []
  readonly #waiting = new Map<number, (outcome: Outcome) => void>()
  readonly #free: number[]

  constructor({
    bytes = 1 << 20,
    jobs = 64,
    vectors = 1024,
    kind,
  }: {
    bytes?: number
    jobs?: number
    vectors?: number
    kind?: BlockEngine['kind']
  }) {
    // O_DIRECT needs memory at a page boundary, where V8 puts a growable buffer.
    this.memory = new Uint8Array(new SharedArrayBuffer(bytes, { maxByteLength: bytes }), 0, bytes)
    this.engine = newEngine(native, this.memory, (count) => this.#onDone(count), kind)
    this.done = new Uint32Array(this.engine.createDone())
    this.table = openTable(this.engine, jobs, vectors)
    const submit = this.engine.createSubmit()
    this.submit = (count) => submit(this.table.number, count)
    this.#free = Array.from({ length: jobs }, (_, job) => job)
  }

  /** Writes a job into the table's columns, and its vectors from index `first` on. */
  describe(
    number: number,
    { file, operation, position = 0, length = 0, vectors = [] }: Job,
    first = 0,
  ): void {
    const { table } = this
    table.position[number] = position
    table.length[number] = length
    table.file[number] = file
    table.operation[number] = operations[operation]
    table.first[number] = first
    table.count[number] = vectors.length
    for (const [at, [offset, bytes]] of vectors.entries()) {
      table.offset[first + at] = offset
      table.bytes[first + at] = bytes
    }
  }

  /** Submits all jobs with one call, then starts the deferred ones. */
  run(jobs: readonly Job[]): Promise<Outcome[]> {
    let vector = 0
    const numbers = jobs.map((job, at) => {
      const number = this.#free.pop()
      if (number === undefined) throw new Error('the test has too many jobs')
      this.describe(number, job, vector)
      vector += job.vectors?.length ?? 0
      this.table.list[at] = number
      return number
    })
    const outcomes = numbers.map(
      (number) => new Promise<Outcome>((resolve) => this.#waiting.set(number, resolve)),
    )
    const done = this.submit(jobs.length)
    this.engine.proceed()
    for (const number of this.table.list.slice(0, done)) this.#settle(number, true)
    return Promise.all(outcomes)
  }

  #onDone(count: number): void {
    this.wakes.push(count)
    for (const number of this.done.slice(0, count)) this.#settle(number, false)
  }

  #settle(number: number, atOnce: boolean): void {
    const resolve = this.#waiting.get(number)
    if (resolve === undefined) throw new Error(`job ${number} is not in flight and done`)
    this.#waiting.delete(number)
    this.#free.push(number)
    resolve({ result: this.table.result[number] ?? 0, atOnce })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.engine.close()
    await until(() => native.counters().polls === 0)
  }
}
