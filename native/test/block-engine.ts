/**
 * A block engine for tests: typed arrays over its columns, and a promise for every batch of jobs.
 */
import { loadNative, type BlockEngine } from '../index.js'
import { until } from './fifo.ts'
import { newEngine } from './new-engine.mjs'

export const native = loadNative()
export const kinds = ['io_uring', 'threads'] as const
export const operations = { read: 0, write: 1, flush: 2, discard: 3, 'write-zeroes': 4 } as const

export interface Job {
  readonly file: number
  readonly operation: keyof typeof operations
  readonly position?: number
  /** Bytes, for an operation without data. */
  readonly length?: number
  /** Offset in the engine's memory and length in bytes, of each vector. */
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
  readonly position: Float64Array
  readonly length: Float64Array
  readonly file: Uint32Array
  readonly first: Uint32Array
  readonly count: Uint32Array
  readonly result: Int32Array
  readonly list: Uint32Array
  readonly done: Uint32Array
  readonly offset: Uint32Array
  readonly bytes: Uint32Array
  readonly operation: Uint8Array
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
    // A growable buffer begins at a page boundary, as O_DIRECT needs.
    this.memory = new Uint8Array(new SharedArrayBuffer(bytes, { maxByteLength: bytes }), 0, bytes)
    this.engine = newEngine(native, this.memory, (count) => this.#onDone(count), kind)
    this.done = new Uint32Array(this.engine.createDone())
    const number = this.engine.addTable(jobs, vectors)
    const submit = this.engine.createSubmit()
    this.submit = (count) => submit(number, count)
    const table = this.engine.createTable(number)
    let at = 0
    const column = <T>(
      Column: new (buffer: ArrayBuffer, at: number, length: number) => T,
      width: number,
      length: number,
    ): T => {
      const made = new Column(table, at, length)
      at += width * length
      return made
    }
    this.position = column(Float64Array, 8, jobs)
    this.length = column(Float64Array, 8, jobs)
    this.file = column(Uint32Array, 4, jobs)
    this.first = column(Uint32Array, 4, jobs)
    this.count = column(Uint32Array, 4, jobs)
    this.result = column(Int32Array, 4, jobs)
    this.list = column(Uint32Array, 4, jobs)
    this.offset = column(Uint32Array, 4, vectors)
    this.bytes = column(Uint32Array, 4, vectors)
    this.operation = column(Uint8Array, 1, jobs)
    if (at !== table.byteLength) {
      throw new Error(`the table has ${table.byteLength} bytes, its columns ${at}`)
    }
    this.#free = Array.from({ length: jobs }, (_, job) => job)
  }

  /** Writes a job's row, and its vectors from index `first` on. */
  describe(
    number: number,
    { file, operation, position = 0, length = 0, vectors = [] }: Job,
    first = 0,
  ): void {
    this.position[number] = position
    this.length[number] = length
    this.file[number] = file
    this.operation[number] = operations[operation]
    this.first[number] = first
    this.count[number] = vectors.length
    for (const [at, [offset, bytes]] of vectors.entries()) {
      this.offset[first + at] = offset
      this.bytes[first + at] = bytes
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
      this.list[at] = number
      return number
    })
    const outcomes = numbers.map(
      (number) => new Promise<Outcome>((resolve) => this.#waiting.set(number, resolve)),
    )
    const done = this.submit(jobs.length)
    this.engine.proceed()
    for (const number of this.list.slice(0, done)) this.#settle(number, true)
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
    resolve({ result: this.result[number] ?? 0, atOnce })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.engine.close()
    await until(() => native.counters().polls === 0)
  }
}
