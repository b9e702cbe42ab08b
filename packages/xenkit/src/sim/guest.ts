/**
 * The simulated guest, on a thread of its own: attaches its disk, reads all of it, overwrites
 * random places and reads them back, then reads all of it again. Tells the thread that started it
 * how far it is.
 */
import { createHash } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { type DomainHandle, attachDomain } from '@xenkit/sim'
import { type Disk, attachDisk } from '@xenkit/vbd'

export interface GuestOrders {
  readonly domain: DomainHandle
  readonly vdev: string
  /** Random writes to make, each read back; 0 leaves the disk as it is. */
  readonly writes: number
  readonly seed: number
}

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

/** Bytes of one read while the whole disk is read, and how many such reads are in flight. */
const CHUNK = 256 * 1024
const IN_FLIGHT = 4
const LONGEST_WRITE_SECTORS = 64

async function run({ domain, vdev, writes, seed }: GuestOrders): Promise<void> {
  await using hv = await attachDomain(domain)
  await using disk = await attachDisk(hv, { vdev, depth: 32 })
  report({ kind: 'attached', sectors: disk.sectors, readOnly: disk.readOnly })
  report({ kind: 'read', phase: 'read', sha256: await readAll(disk, 'read') })
  const wanted = disk.readOnly ? 0 : writes
  if (wanted > 0) {
    await writeAndVerify(disk, wanted, seed)
    report({ kind: 'read', phase: 'reread', sha256: await readAll(disk, 'reread') })
  }
  report({ kind: 'finished', verifiedWrites: wanted })
}

/** Reads in order with several requests under way, so that hashing and the backend overlap. */
async function readAll(disk: Disk, phase: 'read' | 'reread'): Promise<string> {
  const hash = createHash('sha256')
  const total = disk.sectors * 512
  const under: Promise<Uint8Array>[] = []
  let next = 0
  for (let done = 0; done < total;) {
    while (under.length < IN_FLIGHT && next < total) {
      const buffer = new Uint8Array(Math.min(CHUNK, total - next))
      under.push(disk.read(next / 512, [buffer]).then(() => buffer))
      next += buffer.length
    }
    const buffer = await under.shift()
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
        `sectors ${sector}..${sector + sectors - 1} read back other than written (seed ${seed})`,
      )
    }
    report({ kind: 'progress', phase: 'write', done: i + 1, total: count })
  }
  await disk.flush()
}

/** Marsaglia's xorshift32: writes that can be repeated from their seed. */
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

await run(workerData as GuestOrders) // set by runGuest alone
