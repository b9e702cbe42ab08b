/**
 * `xenkit demo`: the whole data path on one machine without Xen. The real backend serves a disk
 * through the simulated hypervisor to a guest on its own thread. The guest reads the disk, writes
 * to random places and verifies every byte; afterwards the backend's side checks the disk too. The
 * guest's writes stay in memory, so an image of any size needs no copy.
 */
import { createHash, randomFillSync } from 'node:crypto'
import { type BlockStore, type VbdStats, eventLog, serveVbd } from '@xenkit/vbd'
import { memoryStore, overlayStore } from '@xenkit/stores'
import { openFileStore } from '../open-file-store.ts'
import type { GuestReport } from '../sim/guest.ts'
import { plugMachine } from '../sim/machine.ts'
import { runGuest } from '../sim/run-guest.ts'
import { Steps } from './steps.ts'
import { UsageError } from './usage-error.ts'

const MIB = 2 ** 20
const DEFAULT_DISK_BYTES = 64 * MIB
/** Most memory of one write: 64 sectors, plus the rest of two blocks of 4 KiB. */
const WRITE_BYTES = 40 * 1024
/** Bytes per read of the disk for its sha256. */
const PIECE = MIB

export interface DemoOptions {
  readonly writes: number
  readonly seed: number
}

export async function demo(image: string | undefined, o: DemoOptions): Promise<void> {
  if (image === undefined) {
    const disk = memoryStore(randomFillSync(new Uint8Array(DEFAULT_DISK_BYTES)))
    return serveAndVerify(disk, 'a disk of 64 MiB in memory', o)
  }
  await using base = await openFileStore(image, { readOnly: true })
  expectMemory(base, o)
  await serveAndVerify(overlayStore(base), `${image}, which isn't changed`, o)
}

function expectMemory({ sectors }: BlockStore, { writes }: DemoOptions): void {
  const most = Math.min(writes * WRITE_BYTES, sectors * 512)
  const free = process.availableMemory()
  if (most <= free) return
  const found = `${writes} writes take up to ${size(most)} of memory, ${size(free)} are free`
  throw new UsageError(`${found}: reduce --writes`)
}

async function serveAndVerify(store: BlockStore, name: string, o: DemoOptions): Promise<void> {
  const steps = new Steps()
  try {
    const before = await sha256(store, (done) => steps.progress(`reading ${name}: ${done}`))
    steps.succeed(`${name}: sha256 ${before.slice(0, 16)}…`)

    const began = performance.now()
    const { result, stats } = await serveToGuest(store, steps, o)
    expectEqual('the guest read', result.sha256, before)
    steps.succeed(`the guest read all ${size(result.sectors * 512)} and found the same sha256`)
    if (result.verifiedWrites > 0) {
      const after = await sha256(store, (done) => steps.progress(`reading the disk again: ${done}`))
      expectEqual('after writing, the guest read', result.sha256AfterWrites, after)
      steps.succeed(
        `the guest wrote to ${result.verifiedWrites} random places, read each back, ` +
          `and agrees with the disk: ${after.slice(0, 16)}…`,
      )
    }

    const { reads, writes, flushes, errors, bytesRead, bytesWritten } = stats
    const seconds = (performance.now() - began) / 1000
    console.log(
      `\n${reads} reads (${size(bytesRead)}), ${writes} writes (${size(bytesWritten)}), ` +
        `${flushes} flushes, ${errors} errors in ${seconds.toFixed(1)} s, ` +
        `${size((bytesRead + bytesWritten) / seconds)}/s; nothing leaked (seed ${o.seed})`,
    )
  } catch (error) {
    steps.fail()
    throw error
  }
}

/**
 * Serves the disk on this thread to the guest on its own thread, then checks that nothing leaked.
 */
async function serveToGuest(store: BlockStore, steps: Steps, o: DemoOptions) {
  steps.start('the guest looks for its disk')
  const { machine, dom0, guest, vdev } = await plugMachine({ seed: o.seed })
  const stop = new AbortController()
  const log = eventLog((line, { failed }) => {
    if (failed) steps.say(line)
  })
  let stats: VbdStats | undefined
  const [result] = await Promise.all([
    runGuest({ guest, vdev, ...o, onReport: (report) => show(steps, report) }).finally(() =>
      stop.abort(),
    ),
    serveVbd(dom0, {
      store,
      signal: stop.signal,
      onEvent(event) {
        stats = event.disk.stats
        log(event)
      },
    }),
  ])
  await guest.close()
  await dom0.close()
  machine.assertQuiescent()
  if (stats === undefined) throw new Error('the disk was never served')
  return { result, stats }
}

const VERBS = { read: 'reads the disk', write: 'writes and verifies', reread: 'reads it all again' }

function show(steps: Steps, report: GuestReport): void {
  if (report.kind !== 'progress') return
  steps.progress(`the guest ${VERBS[report.phase]}: ${percent(report.done / report.total)}`)
}

async function sha256(store: BlockStore, onProgress: (done: string) => void): Promise<string> {
  const hash = createHash('sha256')
  const piece = new Uint8Array(PIECE)
  for (let sector = 0; sector < store.sectors; sector += PIECE / 512) {
    onProgress(percent(sector / store.sectors))
    const part = piece.subarray(0, (store.sectors - sector) * 512)
    await store.read(sector, [part])
    hash.update(part)
  }
  return hash.digest('hex')
}

function expectEqual(what: string, found: string | undefined, expected: string): void {
  if (found === expected) return
  throw new UsageError(`${what} sha256 ${found ?? 'nothing'}, the disk has ${expected}`)
}

const percent = (part: number): string => `${Math.floor(part * 100)} %`

const size = (bytes: number): string =>
  bytes < 10 * MIB ? `${Math.round(bytes / 1024)} KiB` : `${Math.round(bytes / MIB)} MiB`
