/**
 * `xenkit demo`: the whole path on one machine without Xen. A disk image is served by the real backend
 * through the simulated hypervisor to a guest on a thread of its own, which reads it all, writes to
 * random places and verifies every byte; the image is then checked from this side.
 */
import { createHash, randomBytes } from 'node:crypto'
import { constants, createReadStream, createWriteStream, mkdtempSync, rmSync } from 'node:fs'
import { chmod, copyFile, open, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { type VbdStats, serveVbd } from '@xenkit/vbd'
import { openFileStore } from '@xenkit/vbd/stores'
import ora from 'ora'
import { plugMachine } from '../sim/machine.ts'
import type { GuestReport } from '../sim/guest.ts'
import { runGuest } from '../sim/run-guest.ts'

const DEFAULT_IMAGE_BYTES = 64 * 2 ** 20

export interface DemoOptions {
  readonly writes: number
  readonly seed: number
}

export async function demo(image: string | undefined, o: DemoOptions): Promise<void> {
  // Before anything is made, so that a wrong path is told as such.
  if (image) await (await openFileStore(image, { readOnly: true })).close()
  const folder = temporaryFolder()
  const spinner = ora({ discardStdin: false })
  try {
    spinner.start(image ? `copying ${image}: the original stays as it is` : 'making a disk image of 64 MiB')
    const path = join(folder, 'disk.img')
    await (image ? copyImage(image, path) : makeImage(path))
    const before = await sha256(path)
    spinner.succeed(`disk image, sha256 ${before.slice(0, 16)}…`)

    spinner.start('the guest looks for its disk')
    const began = performance.now()
    const { result, stats } = await serveToGuest(path, o, (report) => show(spinner, report, began))
    expectEqual('the guest read', result.sha256, before)
    spinner.succeed(`the guest read all ${mebibytes(result.sectors * 512)} MiB and found the same sha256`)
    if (result.verifiedWrites > 0) {
      const after = await sha256(path)
      expectEqual('after writing, the guest read', result.sha256AfterWrites, after)
      spinner.succeed(`the guest wrote to ${result.verifiedWrites} random places, read each back, and agrees with the image: ${after.slice(0, 16)}…`)
    }

    const seconds = (performance.now() - began) / 1000
    console.log(
      `\n${stats.reads} reads (${mebibytes(stats.bytesRead)} MiB), ${stats.writes} writes (${mebibytes(stats.bytesWritten)} MiB), ` +
        `${stats.flushes} flushes, ${stats.errors} errors in ${seconds.toFixed(1)} s, ${mebibytes((stats.bytesRead + stats.bytesWritten) / seconds)} MiB/s; nothing leaked (seed ${o.seed})`,
    )
  } catch (error) {
    spinner.fail()
    throw error
  }
}

/** Removed with the process, however that ends: it holds a copy of somebody's disk. */
function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'xenkit-demo-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  for (const [name, number] of [['SIGINT', 2], ['SIGTERM', 15]] as const) process.once(name, () => process.exit(128 + number))
  return folder
}

/** Serves the image on this thread while the guest runs on its own; ends with the machine found clean. */
async function serveToGuest(path: string, o: DemoOptions, onReport: (report: GuestReport) => void) {
  await using store = await openFileStore(path)
  const { machine, dom0, guest, vdev } = await plugMachine({ seed: o.seed })
  const stop = new AbortController()
  let stats: VbdStats | undefined
  const [result] = await Promise.all([
    runGuest({ guest, vdev, ...o, onReport }).finally(() => stop.abort()),
    serveVbd(dom0, { store, signal: stop.signal, onEvent: ({ disk }) => (stats = disk.stats) }),
  ])
  await guest.close()
  await dom0.close()
  machine.assertQuiescent()
  if (stats === undefined) throw new Error('the disk was never served')
  return { result, stats }
}

function show(spinner: ReturnType<typeof ora>, report: GuestReport, began: number): void {
  if (report.kind === 'attached') spinner.text = `the guest found a disk of ${report.sectors} sectors`
  if (report.kind !== 'progress') return
  const verb = { read: 'reads the disk', write: 'writes and verifies', reread: 'reads it all again' }[report.phase]
  spinner.text = `the guest ${verb}: ${Math.floor((report.done / report.total) * 100)} %, ${((performance.now() - began) / 1000).toFixed(0)} s`
}

async function makeImage(path: string): Promise<void> {
  await using file = await open(path, 'wx')
  for (let at = 0; at < DEFAULT_IMAGE_BYTES; at += 2 ** 20) await file.write(randomBytes(2 ** 20), 0, 2 ** 20, at)
}

/** The guest writes: never to the user's own image. */
async function copyImage(image: string, path: string): Promise<void> {
  if ((await stat(image)).isFile()) {
    await copyFile(image, path, constants.COPYFILE_FICLONE)
    await chmod(path, 0o600)
  } else {
    await pipeline(createReadStream(image), createWriteStream(path))
  }
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 2 ** 20 }), hash)
  return hash.digest('hex')
}

function expectEqual(what: string, found: string | undefined, expected: string): void {
  if (found !== expected) throw new Error(`${what} sha256 ${found ?? 'nothing'}, the image has ${expected}`)
}

const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20)
