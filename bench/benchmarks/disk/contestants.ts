/**
 * A guest with a disk, and who serves it. They stay connected; whose turn it is has the processors.
 */
import { open } from 'node:fs/promises'
import { processorSeconds } from '../../src/process-usage.ts'
import type { Program } from '../../src/program.ts'
import {
  connectDisk,
  dataGrefOf,
  grefOf,
  type Guest,
  portOf,
  type Rig,
  SLOTS,
} from '../../rig/rig.ts'

/** Of the image, 64 MiB: it stays in the page cache, and doesn't fit the processor's. */
const BLOCKS = 16_384
const BLOCK = 4_096

export interface Load {
  readonly operation: 'read' | 'write' | 'mixed'
  /** Requests under way, 1..32. */
  readonly depth: number
  /** Pages of a request, 1..256. */
  readonly segments: number
}

/** What front.c counted, and the kernel. */
export interface Turn {
  readonly requests: number
  readonly seconds: number
  readonly kicks: number
  readonly wakes: number
  /** System calls of ours on gntdev, and on evtchn to notify and unmask. */
  readonly grantCalls: number
  readonly eventCalls: number
  /** That the backend was on a processor, in seconds. */
  readonly busy: number
}

export class Contestant implements AsyncDisposable {
  /** The backend. */
  readonly program: Program
  readonly image: string
  readonly #guest: Guest
  readonly #backend: AsyncDisposable

  private constructor(guest: Guest, program: Program, backend: AsyncDisposable = program) {
    this.#guest = guest
    this.program = program
    this.image = imageOf(guest)
    this.#backend = backend
  }

  /** A backend of back.c, which does it `how`, with a thread for each queue. */
  static async inC(
    rig: Rig,
    how: 'pread' | 'spin' | 'mmap' | 'thread',
    queues = 1,
  ): Promise<Contestant> {
    const guest = await rig.guest('front', queues, BLOCKS)
    const program = await rig.backend(guest, 'back', queues, await makeImage(guest), how)
    return new Contestant(guest, program)
  }

  /**
   * `serveVbd`, which has so many threads for its queues besides its own; the image is a file, or
   * loaded into memory.
   */
  static async ours(
    rig: Rig,
    dataPath: 'copy' | 'persistent',
    {
      queues = 1,
      workers = 0,
      store = 'file',
    }: {
      readonly queues?: number
      readonly workers?: number
      readonly store?: 'file' | 'memory'
    } = {},
  ): Promise<Contestant> {
    const guest = await rig.guest('front', queues, BLOCKS)
    const ours = await rig.ours(guest, 'serve', dataPath, workers, store)
    await connectDisk(ours.xs, {
      number: 0,
      rings: Array.from({ length: queues }, (_, ring) => ring),
      image: await makeImage(guest),
    })
    return new Contestant(guest, ours.program, ours)
  }

  /** A backend in JavaScript as one would write it without a library. */
  static async idiomatic(rig: Rig): Promise<Contestant> {
    const guest = await rig.guest('front', 1, BLOCKS)
    const pages = Array.from({ length: SLOTS }, (_, slot) => dataGrefOf(0, slot))
    const ours = await rig.ours(
      guest,
      'idiomatic',
      await makeImage(guest),
      grefOf(0),
      portOf(0),
      ...pages,
    )
    return new Contestant(guest, ours.program, ours)
  }

  /** Has the guest do that until it has been so many seconds, or requests. */
  async turn(
    { operation, depth, segments }: Load,
    {
      seconds = 3_600,
      requests = Number.MAX_SAFE_INTEGER,
    }: { readonly seconds?: number; readonly requests?: number },
  ): Promise<Turn> {
    const before = processorSeconds(this.program.pid)
    const counted = await this.#guest.program.ask<Omit<Turn, 'busy'>>(
      `${operation} ${depth} ${segments} ${seconds} ${requests}`,
    )
    return { ...counted, busy: processorSeconds(this.program.pid) - before }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#backend[Symbol.asyncDispose]()
    await this.#guest[Symbol.asyncDispose]()
  }
}

const imageOf = ({ socket }: Guest): string => `${socket}.img`

/**
 * Each block begins with its number, which the guest looks for. Of its own for each: some write to
 * it.
 */
async function makeImage(guest: Guest): Promise<string> {
  const path = imageOf(guest)
  await using file = await open(path, 'w')
  const bytes = Buffer.alloc(2 ** 20)
  for (let block = 0; block < BLOCKS;) {
    for (let at = 0; at < bytes.length; at += BLOCK) bytes.writeBigUInt64LE(BigInt(block++), at)
    await file.write(bytes)
  }
  return path
}
