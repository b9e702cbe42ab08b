/**
 * The addon's block engine, shared by all disks that use one arena. It exists as long as one of
 * these disks does.
 */
import { getSystemErrorName } from 'node:util'
import type { StoreBatch, StoreBatchOptions, StoreJobs } from '@xenkit/block-store'
import {
  type BlockEngine as NativeEngine,
  loadNative,
  type MemoryImage,
  type Native,
  type SubmitJobs,
} from '@xenkit/native'
import { optionalNative } from './optional-native.ts'

/** Options of a batch on an image file. */
export interface FileBatchOptions extends StoreBatchOptions {
  /** Descriptor of an open image. The caller may close it once the batch is open. */
  readonly fd: number
  /** Whether the descriptor was opened with O_DIRECT. */
  readonly direct: boolean
}

const engines = new WeakMap<ArrayBufferLike, BlockEngine>()

/**
 * Returns a function that opens a batch of reads and writes on an image file, in the form that the
 * stores use; undefined where the addon can't be loaded.
 */
export function openFileBatch(): ((o: FileBatchOptions) => ImageBatch | undefined) | undefined {
  const native = optionalNative()
  return native && ((o) => engineFor(native, o.memory).openFile(o))
}

/**
 * Opens a batch of reads and writes on a memory image. The caller may close the image once the
 * batch is open.
 */
export const openMemoryBatch = (
  native: Native,
  image: MemoryImage,
  o: StoreBatchOptions,
): ImageBatch => engineFor(native, o.memory).openMemory(image, o)

const engineFor = (native: Native, memory: ArrayBufferLike): BlockEngine =>
  engines.get(memory) ?? new BlockEngine(native, memory)

/**
 * Returns what serves transfers that must wait for a disk (io_uring or threads), and why it isn't
 * io_uring.
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
  /** Open batches. The index is the number of the batch's table in the addon. */
  readonly #batches: (ImageBatch | undefined)[] = []
  /** Number of open batches. */
  #users = 0

  constructor(native: Native, memory: ArrayBufferLike) {
    this.#memory = memory
    this.#native = new native.BlockEngine(new Uint8Array(memory), (count) => this.#onDone(count))
    this.#submit = this.#native.createSubmit()
    this.#done = new Uint32Array(this.#native.createDone())
  }

  /**
   * Opens a batch on a file.
   * @returns undefined if the file needs aligned buffers (O_DIRECT) and the memory isn't aligned
   */
  openFile(o: FileBatchOptions): ImageBatch | undefined {
    if (!o.direct || this.#native.aligned) return this.#open(o, () => this.#native.open(o.fd))
    this.#closeUnused()
    return undefined
  }

  openMemory(image: MemoryImage, o: StoreBatchOptions): ImageBatch {
    return this.#open(o, () => this.#native.openMemory(image))
  }

  #open(o: StoreBatchOptions, take: () => number): ImageBatch {
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
          jobs: jobsOf(this.#native, table, file, o.capacity),
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
      // Completions of one disk mostly come one after the other: call `turned` after the last one.
      if (batch !== turned) turned?.turned()
      turned = batch
      batch?.done(number & 0xffff)
    }
    turned?.turned()
  }
}

/**
 * Returns views of the columns of a batch's table. Columns whose values never change are filled in.
 */
function jobsOf(
  native: NativeEngine,
  table: number,
  file: number,
  o: StoreBatchOptions['capacity'],
): StoreJobs {
  const { jobs, pieces } = o
  const buffer = native.createTable(table)
  const layout = native.tableLayout(table)
  const words = (offset: number, length = jobs): Uint32Array =>
    new Uint32Array(buffer, offset, length)
  words(layout.file).fill(file)
  words(layout.first).forEach((_, job, first) => (first[job] = job * pieces))
  return {
    position: new Float64Array(buffer, layout.position, jobs),
    count: words(layout.count),
    result: new Int32Array(buffer, layout.result, jobs),
    list: words(layout.list),
    offset: words(layout.offset, jobs * pieces),
    bytes: words(layout.bytes, jobs * pieces),
    operation: new Uint8Array(buffer, layout.operation, jobs),
  }
}

/** A batch of reads and writes of one image, in the form that the stores use. */
export class ImageBatch implements StoreBatch {
  readonly jobs: StoreJobs
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
      readonly jobs: StoreJobs
    },
    o: StoreBatchOptions,
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
