/**
 * The addon's block engine, shared by all disks whose data lies in one arena: one for an event
 * loop, there while a disk uses it.
 */
import { getSystemErrorName } from 'node:util'
import {
  type BlockEngine as NativeEngine,
  loadNative,
  type MemoryImage,
  type Native,
  type SubmitJobs,
} from '@xenkit/native'
import { optionalNative } from './optional-native.ts'

export interface BatchOptions {
  readonly memory: ArrayBufferLike
  readonly capacity: { readonly jobs: number; readonly pieces: number }
  readonly done: (job: number) => void
  readonly turned: () => void
}

export interface FileBatchOptions extends BatchOptions {
  /** An open image, which may be closed once the batch is there. */
  readonly fd: number
  /** Whether it was opened with O_DIRECT. */
  readonly direct: boolean
}

const engines = new WeakMap<ArrayBufferLike, BlockEngine>()

/**
 * What opens a batch of reads and writes of an image for memory, as stores of @xenkit/vbd want it.
 * Undefined where the addon can't be loaded.
 */
export function openFileBatch(): ((o: FileBatchOptions) => ImageBatch | undefined) | undefined {
  const native = optionalNative()
  return native && ((o) => engineFor(native, o.memory).openFile(o))
}

/**
 * Opens a batch of reads and writes of a memory image, which may be closed once the batch is there.
 */
export const openMemoryBatch = (native: Native, image: MemoryImage, o: BatchOptions): ImageBatch =>
  engineFor(native, o.memory).openMemory(image, o)

const engineFor = (native: Native, memory: ArrayBufferLike): BlockEngine =>
  engines.get(memory) ?? new BlockEngine(native, memory)

/**
 * What serves transfers that have to wait for a disk, and if that isn't io_uring, why.
 * @throws Error where the addon can't be loaded
 */
export function blockEngineKind(): {
  readonly kind: NativeEngine['kind']
  readonly refused?: string
} {
  const native = loadNative()
  const kind = 'io_uring'
  try {
    new native.BlockEngine(new Uint8Array(1), () => {}, kind).close()
    return { kind }
  } catch (error) {
    return { kind: 'threads', refused: error instanceof Error ? error.message : String(error) }
  }
}

class BlockEngine {
  readonly #native: NativeEngine
  readonly #submit: SubmitJobs
  readonly #memory: ArrayBufferLike
  readonly #done: Uint32Array
  /** By the number of its table. */
  readonly #batches: (ImageBatch | undefined)[] = []
  /** Batches that are open. */
  #users = 0

  constructor(native: Native, memory: ArrayBufferLike) {
    this.#memory = memory
    this.#native = new native.BlockEngine(new Uint8Array(memory), (count) => this.#onDone(count))
    this.#submit = this.#native.createSubmit()
    this.#done = new Uint32Array(this.#native.createDone())
  }

  /** @returns undefined for memory of which a direct file can't take pieces */
  openFile(o: FileBatchOptions): ImageBatch | undefined {
    if (!o.direct || this.#native.aligned) return this.#open(o, () => this.#native.open(o.fd))
    this.#closeUnused()
    return undefined
  }

  openMemory(image: MemoryImage, o: BatchOptions): ImageBatch {
    return this.#open(o, () => this.#native.openMemory(image))
  }

  #open(o: BatchOptions, take: () => number): ImageBatch {
    const { jobs, pieces } = o.capacity
    let file
    let table
    try {
      file = take()
      table = this.#native.addTable(jobs, jobs * pieces)
      const batch = new ImageBatch(
        this,
        {
          submit: this.#submit,
          table,
          file,
          jobs: jobsOf(this.#native.createTable(table), file, o.capacity),
        },
        o,
      )
      this.#batches[table] = batch
      this.#users++
      engines.set(this.#memory, this)
      return batch
    } catch (error) {
      if (table !== undefined) this.#native.removeTable(table)
      if (file !== undefined) this.#native.release(file)
      this.#closeUnused()
      throw error
    }
  }

  proceed(): void {
    this.#native.proceed()
  }

  release(table: number, file: number): void {
    this.#batches[table] = undefined
    this.#native.removeTable(table)
    this.#native.release(file)
    this.#users--
    this.#closeUnused()
  }

  #closeUnused(): void {
    if (this.#users > 0) return
    engines.delete(this.#memory)
    this.#native.close()
  }

  #onDone(count: number): void {
    let turned: ImageBatch | undefined
    for (let i = 0; i < count; i++) {
      const number = this.#done[i] ?? 0
      const batch = this.#batches[number >>> 16]
      // Those of one disk come mostly together.
      if (batch !== turned) turned?.turned()
      turned = batch
      batch?.done(number & 0xffff)
    }
    turned?.turned()
  }
}

/** The columns of a table of `Native.BlockEngine`. */
function jobsOf(table: ArrayBuffer, file: number, { jobs, pieces }: BatchOptions['capacity']) {
  let at = 0
  const column = <T>(
    Column: {
      new (buffer: ArrayBuffer, at: number, length: number): T
      readonly BYTES_PER_ELEMENT: number
    },
    length = jobs,
  ): T => {
    const made = new Column(table, at, length)
    at += length * Column.BYTES_PER_ELEMENT
    return made
  }
  const position = column(Float64Array)
  column(Float64Array)
  column(Uint32Array).fill(file)
  column(Uint32Array).forEach((_, job, first) => (first[job] = job * pieces))
  return {
    position,
    count: column(Uint32Array),
    result: column(Int32Array),
    list: column(Uint32Array),
    offset: column(Uint32Array, jobs * pieces),
    bytes: column(Uint32Array, jobs * pieces),
    operation: column(Uint8Array),
  }
}

/** A `StoreJobs` of @xenkit/vbd. */
type ImageJobs = ReturnType<typeof jobsOf>

/** Reads and writes of one image: a `StoreBatch` of @xenkit/vbd. */
export class ImageBatch {
  readonly jobs: ImageJobs
  readonly done: (job: number) => void
  readonly turned: () => void
  readonly #engine: BlockEngine
  readonly #submit: SubmitJobs
  readonly #table: number
  readonly #file: number

  constructor(
    engine: BlockEngine,
    {
      submit,
      table,
      file,
      jobs,
    }: {
      readonly submit: SubmitJobs
      readonly table: number
      readonly file: number
      readonly jobs: ImageJobs
    },
    o: BatchOptions,
  ) {
    this.#engine = engine
    this.#submit = submit
    this.#table = table
    this.#file = file
    this.jobs = jobs
    this.done = o.done
    this.turned = o.turned
  }

  start(count: number): number {
    return this.#submit(this.#table, count)
  }

  proceed(): void {
    this.#engine.proceed()
  }

  error(result: number): Error {
    const code = getSystemErrorName(result)
    return Object.assign(new Error(`the image: ${code}`), { code })
  }

  close(): void {
    this.#engine.release(this.#table, this.#file)
  }
}
