/**
 * The addon's block engine, shared by all disks whose data lies in one arena: one for an event loop, there
 * while a disk uses it.
 */
import { getSystemErrorName } from 'node:util'
import { type BlockEngine as NativeEngine, loadNative, type MemoryImage, type Native } from '@xenkit/native'
import { optionalNative } from './optional-native.ts'

/** Requests under way, of all disks. */
const JOBS = 4_096
/** Pieces of memory of one call: those of a ring of the largest requests. */
const VECTORS = 64 * 256

/** How long what is done may wait to be announced together with what stalls. */
const LOOK_MS = 2

const SECTOR = 512
const READ = 0
const WRITE = 1

export interface BatchOptions {
  readonly memory: ArrayBufferLike
  readonly done: (tag: number, result: number) => void
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
 * What opens a batch of reads and writes of an image for memory, as stores of @xenkit/vbd want it. Undefined
 * where the addon can't be loaded.
 */
export function openFileBatch(): ((o: FileBatchOptions) => ImageBatch | undefined) | undefined {
  const native = optionalNative()
  return native && ((o) => engineFor(native, o.memory).openFile(o))
}

/** Opens a batch of reads and writes of a memory image, which may be closed once the batch is there. */
export const openMemoryBatch = (native: Native, image: MemoryImage, o: BatchOptions): ImageBatch => engineFor(native, o.memory).openMemory(image, o)

const engineFor = (native: Native, memory: ArrayBufferLike): BlockEngine => engines.get(memory) ?? new BlockEngine(native, memory)

/**
 * What serves transfers that have to wait for a disk, and if that isn't io_uring, why.
 * @throws Error where the addon can't be loaded
 */
export function blockEngineKind(): { readonly kind: NativeEngine['kind']; readonly refused?: string } {
  const native = loadNative()
  const kind = 'io_uring'
  try {
    new native.BlockEngine(new Uint8Array(1), 1, 1, () => {}, kind).close()
    return { kind }
  } catch (error) {
    return { kind: 'threads', refused: error instanceof Error ? error.message : String(error) }
  }
}

class BlockEngine {
  readonly #native: NativeEngine
  readonly #start: (count: number) => number
  readonly #memory: ArrayBufferLike
  /** Batches that are open. */
  #users = 0
  readonly #position: Float64Array
  readonly #file: Uint32Array
  readonly #first: Uint32Array
  readonly #count: Uint32Array
  readonly #result: Int32Array
  readonly #list: Uint32Array
  readonly #done: Uint32Array
  readonly #offset: Uint32Array
  readonly #bytes: Uint32Array
  readonly #operation: Uint8Array
  readonly #free = Uint32Array.from({ length: JOBS }, (_, job) => JOBS - 1 - job)
  #freeCount = JOBS
  readonly #tags = new Uint32Array(JOBS)
  readonly #batches: (ImageBatch | undefined)[] = Array.from({ length: JOBS })
  /** Jobs that have been added and not submitted, and pieces of memory of theirs. */
  #listed = 0
  #vectors = 0
  /** What was added last. */
  #last = 0
  #looksLater = false
  #timer: NodeJS.Timeout | undefined

  constructor(native: Native, memory: ArrayBufferLike) {
    this.#memory = memory
    this.#native = new native.BlockEngine(new Uint8Array(memory), JOBS, VECTORS, (count) => this.#onDone(count))
    this.#start = this.#native.createSubmit()
    const table = this.#native.createTable()
    let at = 0
    const column = <T>(Column: { new (buffer: ArrayBuffer, at: number, length: number): T; readonly BYTES_PER_ELEMENT: number }, length: number): T => {
      const made = new Column(table, at, length)
      at += length * Column.BYTES_PER_ELEMENT
      return made
    }
    this.#position = column(Float64Array, JOBS)
    column(Float64Array, JOBS)
    this.#file = column(Uint32Array, JOBS)
    this.#first = column(Uint32Array, JOBS)
    this.#count = column(Uint32Array, JOBS)
    this.#result = column(Int32Array, JOBS)
    this.#list = column(Uint32Array, JOBS)
    this.#done = column(Uint32Array, JOBS)
    this.#offset = column(Uint32Array, VECTORS)
    this.#bytes = column(Uint32Array, VECTORS)
    this.#operation = column(Uint8Array, JOBS)
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
    try {
      const batch = new ImageBatch(this, take(), o)
      this.#users++
      engines.set(this.#memory, this)
      return batch
    } catch (error) {
      this.#closeUnused()
      throw error
    }
  }

  release(file: number): void {
    this.#native.release(file)
    this.#users--
    this.#closeUnused()
  }

  #closeUnused(): void {
    if (this.#users > 0) return
    engines.delete(this.#memory)
    clearTimeout(this.#timer)
    this.#native.close()
  }

  add(batch: ImageBatch, file: number, tag: number, isWrite: boolean, sector: number, vectors: number): boolean {
    if (this.#freeCount === 0) return false
    if (this.#vectors + vectors > VECTORS) this.submit()
    const job = this.#free[--this.#freeCount] ?? 0
    this.#tags[job] = tag
    this.#batches[job] = batch
    this.#file[job] = file
    this.#operation[job] = isWrite ? WRITE : READ
    this.#position[job] = sector * SECTOR
    this.#first[job] = this.#vectors
    this.#count[job] = 0
    this.#list[this.#listed++] = job
    this.#last = job
    return true
  }

  addVector(offset: number, bytes: number): void {
    const at = this.#vectors++
    this.#offset[at] = offset
    this.#bytes[at] = bytes
    this.#count[this.#last] = at + 1 - (this.#first[this.#last] ?? 0)
  }

  submit(): void {
    const listed = this.#listed
    this.#listed = 0
    this.#vectors = 0
    if (listed === 0) return
    let done
    try {
      done = this.#start(listed)
    } catch (error) {
      for (let i = 0; i < listed; i++) this.#end(this.#list[i] ?? 0)
      throw error
    }
    if (done < listed) this.#lookLater()
    for (let i = 0; i < done; i++) {
      const job = this.#list[i] ?? 0
      this.#end(job)?.done(this.#tags[job] ?? 0, this.#result[job] ?? 0)
    }
  }

  #lookLater(): void {
    if (this.#looksLater) return
    this.#looksLater = true
    this.#timer = this.#timer?.refresh() ?? setTimeout(() => this.#look(), LOOK_MS).unref()
  }

  #look(): void {
    this.#looksLater = false
    this.#onDone(this.#native.look())
    if (this.#freeCount < JOBS) this.#lookLater()
  }

  #onDone(count: number): void {
    let turned: ImageBatch | undefined
    for (let i = 0; i < count; i++) {
      const job = this.#done[i] ?? 0
      const batch = this.#end(job)
      // Those of one disk come mostly together.
      if (batch !== turned) turned?.turned()
      turned = batch
      batch?.done(this.#tags[job] ?? 0, this.#result[job] ?? 0)
    }
    turned?.turned()
  }

  #end(job: number): ImageBatch | undefined {
    const batch = this.#batches[job]
    this.#batches[job] = undefined
    this.#free[this.#freeCount++] = job
    return batch
  }
}

/** Reads and writes of one image. */
export class ImageBatch {
  readonly done: (tag: number, result: number) => void
  readonly turned: () => void
  readonly #engine: BlockEngine
  readonly #file: number

  constructor(engine: BlockEngine, file: number, o: BatchOptions) {
    this.#engine = engine
    this.#file = file
    this.done = o.done
    this.turned = o.turned
  }

  /** See `StoreBatch` of @xenkit/vbd, also for the others. */
  add(tag: number, isWrite: boolean, sector: number, vectors: number): boolean {
    return this.#engine.add(this, this.#file, tag, isWrite, sector, vectors)
  }

  addVector(offset: number, bytes: number): void {
    this.#engine.addVector(offset, bytes)
  }

  submit(): void {
    this.#engine.submit()
  }

  error(result: number): Error {
    const code = getSystemErrorName(result)
    return Object.assign(new Error(`the image: ${code}`), { code })
  }

  close(): void {
    this.#engine.release(this.#file)
  }
}
