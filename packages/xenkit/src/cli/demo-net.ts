/**
 * `xenkit demo net`: two simulated guests, whose network cards are served and connected by a
 * switch. One sends data to the other, which verifies it. What passed is captured to a file, which
 * is read back. Both guests run on this thread.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { captureLink, openCapture, openSwitch } from '@xenkit/links'
import { type SimDomain, createMachine } from '@xenkit/sim'
import { type Vif, cardLog, openVif, plugVif, serveVif } from '@xenkit/vif'
import { openXenstore } from '@xenkit/xenstore-client'
import { Steps } from './steps.ts'
import { UsageError } from './usage-error.ts'

const MIB = 2 ** 20
const BYTES = 16 * MIB
/** Data of a frame: all frames fit into the MTU. */
const PIECE = 8192
const MTU = 9000
/** Ethernet's header, with a type for experiments, then the number of the piece. */
const HEADER = 14 + 4
const ETHERTYPE = 0x88b5
/** Pieces that may be on their way: fewer than the receiver has buffers for. */
const WINDOW = 64

export interface DemoNetOptions {
  readonly seed: number
}

export async function demoNet(o: DemoNetOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'xenkit-demo-'))
  const steps = new Steps()
  try {
    await transfer(join(folder, 'demo.pcapng'), steps, o)
  } catch (error) {
    steps.fail()
    throw error
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function transfer(file: string, steps: Steps, o: DemoNetOptions): Promise<void> {
  steps.start('two guests look for their network cards')
  const data = randomBytes(BYTES)
  const sha256 = sha256Of(data)
  const machine = createMachine(o)
  const dom0 = machine.createDomain()
  const guests = [machine.createDomain(), machine.createDomain()] as const
  const stop = new AbortController()
  const began = performance.now()
  {
    await using net = openSwitch()
    await using capture = await openCapture(file, { bufferBytes: 4 * BYTES })
    const serving = serveVif(dom0, {
      link: captureLink(net.ports({ macs: 'card' }), capture),
      signal: stop.signal,
      onEvent: cardLog((line, { failed }) => {
        if (failed) steps.say(line)
      }),
    })
    for (const guest of guests) await plug(dom0, guest)
    const [from, to] = await Promise.all([
      openVif(guests[0], { devid: 0 }),
      openVif(guests[1], { devid: 0 }),
    ])
    const [, received] = await Promise.all([
      send(from, to, data, (done) => steps.progress(`a guest sends: ${done}`)),
      receive(to, from),
    ])
    expectEqual('the other guest received', sha256Of(received), sha256)
    steps.succeed(`a guest sent 16 MiB to another by the switch: sha256 ${sha256.slice(0, 16)}…`)
    await from.close()
    await to.close()
    stop.abort()
    await serving
  }
  const seconds = (performance.now() - began) / 1000
  for (const guest of guests) await guest.close()
  await dom0.close()
  machine.assertQuiescent()
  await machine.close()
  const captured = await readCapture(file)
  expectEqual('the capture holds', sha256Of(captured.data), sha256)
  steps.succeed(`the capture of ${captured.frames} frames, read back, has the same sha256`)
  console.log(`\n16 MiB in ${seconds.toFixed(1)} s; nothing leaked (seed ${o.seed})`)
}

async function plug(dom0: SimDomain, guest: SimDomain): Promise<void> {
  using xs = await openXenstore(dom0.xenstore)
  const address = { frontendDomid: guest.domid, backendDomid: dom0.domid, devid: 0 }
  await plugVif(xs, { ...address, mtu: MTU })
}

/** Sends data in numbered pieces. The receiver acknowledges them. */
async function send(
  from: Vif,
  to: Vif,
  data: Uint8Array,
  onProgress: (done: string) => void,
): Promise<void> {
  const answers = from[Symbol.asyncIterator]()
  const count = data.length / PIECE
  let acknowledged = 0
  for (let piece = 0; piece < count; piece++) {
    while (piece - acknowledged >= WINDOW) {
      const { value } = await answers.next()
      if (value === undefined) throw new UsageError('the card of the guest that sends was closed')
      acknowledged = pieceOf(value)
      onProgress(`${Math.floor((acknowledged * 100) / count)} %`)
    }
    const part = data.subarray(piece * PIECE, (piece + 1) * PIECE)
    await from.sendFrame(frameOf({ from, to, piece }, part))
  }
}

/** Receives the pieces in order. */
async function receive(to: Vif, from: Vif): Promise<Uint8Array> {
  const data = new Uint8Array(BYTES)
  const count = BYTES / PIECE
  let next = 0
  for await (const frame of to) {
    const piece = pieceOf(frame)
    if (piece !== next) throw new UsageError(`piece ${next} was lost: piece ${piece} came`)
    data.set(frame.subarray(HEADER), piece * PIECE)
    next++
    if (next === count) return data
    if (next % (WINDOW / 2) === 0) await to.sendFrame(frameOf({ from: to, to: from, piece: next }))
  }
  throw new UsageError('the card of the guest that receives was closed')
}

function frameOf(
  { from, to, piece }: { readonly from: Vif; readonly to: Vif; readonly piece: number },
  data: Uint8Array = new Uint8Array(0),
): Uint8Array {
  const frame = Buffer.alloc(HEADER + data.length)
  frame.set(to.mac ?? [], 0)
  frame.set(from.mac ?? [], 6)
  frame.writeUInt16BE(ETHERTYPE, 12)
  frame.writeUInt32BE(piece, 14)
  frame.set(data, HEADER)
  return frame
}

const pieceOf = (frame: Uint8Array): number =>
  new DataView(frame.buffer, frame.byteOffset).getUint32(14)

/** Block of a pcapng file that holds a frame: its data begins at byte 28. */
const ENHANCED_PACKET = 6

/** Reads the frames of a capture, and puts together the data that was sent. */
async function readCapture(file: string): Promise<{ frames: number; data: Uint8Array }> {
  const bytes = await readFile(file)
  const data = new Uint8Array(BYTES)
  let frames = 0
  for (let at = 0; at < bytes.length; at += bytes.readUInt32LE(at + 4)) {
    if (bytes.readUInt32LE(at) !== ENHANCED_PACKET) continue
    frames++
    const length = bytes.readUInt32LE(at + 20)
    const frame = bytes.subarray(at + 28, at + 28 + length)
    if (length === HEADER + PIECE) data.set(frame.subarray(HEADER), pieceOf(frame) * PIECE)
  }
  return { frames, data }
}

const sha256Of = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex')

function expectEqual(what: string, found: string, expected: string): void {
  if (found !== expected) throw new UsageError(`${what} sha256 ${found}, sent was ${expected}`)
}
