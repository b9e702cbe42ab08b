/**
 * The simulated guest, on its own thread. It connects to its disk and reads all of it. It then
 * overwrites random places, reads them back, and reads the whole disk again. It reports its
 * progress to the thread that started it.
 */
import { createHash } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { type DomainHandle, attachDomain } from '@xenkit/sim'
import { type Disk, openVbd } from '@xenkit/vbd'

/** Input of the guest's thread. */
export interface GuestOrders {
  readonly domain: DomainHandle
  readonly vdev: string
  /** Number of random writes, each of which is read back; 0 leaves the disk unchanged. */
  readonly writes: number
  readonly seed: number
}

/** Messages of the guest's thread. */
export type GuestReport =
  | { readonly kind: 'attached'; readonly sectors: number; readonly readOnly: boolean }
  | {
      readonly kind: 'progress'
      readonly phase: 'read' | 'write' | 'reread'
      readonly done: number
      readonly total: number
    }
  | { readonly kind: 'read'; readonly phase: 'read' | 'reread'; readonly sha256: string }
  | { readonly kind: 'finished'; readonly verifiedWrites: number }

/** Bytes per read of the whole disk, and number of reads in flight. */
const CHUNK = 256 * 1024
const IN_FLIGHT = 4
const LONGEST_WRITE_SECTORS = 64

async function run({ domain, vdev, writes, seed }: GuestOrders): Promise<void> {
  await using hv = await attachDomain(domain)
  await using disk = await openVbd(hv, { vdev, depth: 32 })
  report({ kind: 'attached', sectors: disk.sectors, readOnly: disk.readOnly })
  report({ kind: 'read', phase: 'read', sha256: await readAll(disk, 'read') })
  const wanted = disk.readOnly ? 0 : writes
  if (wanted > 0) {
    await writeAndVerify(disk, wanted, seed)
    report({ kind: 'read', phase: 'reread', sha256: await readAll(disk, 'reread') })
  }
  report({ kind: 'finished', verifiedWrites: wanted })
}

/**
 * Reads the disk in order with several requests in flight, so that hashing and the backend overlap.
 */
async function readAll(disk: Disk, phase: 'read' | 'reread'): Promise<string> {
  const hash = createHash('sha256')
  const total = disk.sectors * 512
  const inFlight: Promise<Uint8Array>[] = []
  let next = 0
  for (let done = 0; done < total;) {
    while (inFlight.length < IN_FLIGHT && next < total) {
      const buffer = new Uint8Array(Math.min(CHUNK, total - next))
      inFlight.push(disk.read(next / 512, [buffer]).then(() => buffer))
      next += buffer.length
    }
    const buffer = await inFlight.shift()
    if (buffer === undefined) break
    hash.update(buffer)
    done += buffer.length
    report({ kind: 'progress', phase, done, total })
  }
  return hash.digest('hex')
}

async function writeAndVerify(disk: Disk, count: number, seed: number): Promise<void> {
  const random = xorshift(seed)
  for (let i = 0; i < count; i++) {
    const sectors = Math.min(1 + (random() % LONGEST_WRITE_SECTORS), disk.sectors)
    const sector = random() % (disk.sectors - sectors + 1)
    const written = new Uint8Array(sectors * 512)
    new Uint32Array(written.buffer).forEach((_, at, words) => (words[at] = random()))
    await disk.write(sector, [written])
    const readBack = new Uint8Array(written.length)
    await disk.read(sector, [readBack])
    if (Buffer.compare(written, readBack) !== 0) {
      throw new Error(
        `sectors ${sector}..${sector + sectors - 1} read back different data than written (seed ${seed})`,
      )
    }
    report({ kind: 'progress', phase: 'write', done: i + 1, total: count })
  }
  await disk.flush()
}

/** Marsaglia's xorshift32: the same seed gives the same writes. */
function xorshift(seed: number): () => number {
  let state = seed >>> 0 || 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>>= 0)
  }
}

function report(message: GuestReport): void {
  parentPort?.postMessage(message)
}

await run(workerData as GuestOrders) // only runGuest sets workerData
