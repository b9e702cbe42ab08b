/**
 * A contestant: a guest with a disk, and the backend that serves the disk. All contestants stay
 * connected, but only one at a time sends requests.
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

/**
 * Blocks of the image, which has 64 MiB: it fits the page cache, but not the processor's caches.
 */
const BLOCKS = 16_384
const BLOCK = 4_096

export interface Load {
  readonly operation: 'read' | 'write' | 'mixed'
  /** Requests in flight, 1..32. */
  readonly depth: number
  /** Pages per request, 1..256. */
  readonly segments: number
}

/** Counters of one measured period of a contestant, from front.c and from the kernel. */
export interface Turn {
  readonly requests: number
  readonly seconds: number
  readonly kicks: number
  readonly wakes: number
  /** System calls of xenkit's backend: on gntdev, and on evtchn to notify and unmask. */
  readonly grantCalls: number
  readonly eventCalls: number
  /** Processor time of the backend's threads in seconds. */
  readonly busy: number
}

export class Contestant implements AsyncDisposable {
  /** The backend's process. */
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

  /** Starts the backend back.c, whose mode is `how`, with a thread for each queue. */
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
   * Starts xenkit's `serveVbd` with `workers` threads in addition to the main one. The image is a
   * file, or is loaded into memory.
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

  /** Starts a backend in JavaScript that is written as one would write it without a library. */
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

  /** Makes the guest send requests for `seconds`, or until it has sent `requests`. */
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
 * Makes an image for one contestant, since some guests write. Each block begins with its own
 * number, which the guest checks.
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
