import { expect, test } from 'vitest'
import { Checksum, Frames, Gso } from '@xenkit/frames'
import { ArenaFullError } from '@xenkit/hypervisor'
import { openTapWith } from '../src/tap.ts'
import { TestCard } from './support/test-card.ts'
import { TAP_BATCH, type TapDevice, TapQueue } from '../src/tap-queue.ts'

const PLACE = 70_000

type Receive = (device: TapDevice['columns'], memory: Uint8Array) => number

/** A device of the test's own, which receives what `received` puts into its columns and memory. */
function deviceOf(received: Receive): TapDevice {
  const columns: TapDevice['columns'] = {
    start: Uint32Array.from({ length: TAP_BATCH }, (_, i) => i * PLACE),
    length: new Uint32Array(TAP_BATCH),
    error: new Uint32Array(1),
    checksumStart: new Uint16Array(TAP_BATCH),
    checksumOffset: new Uint16Array(TAP_BATCH),
    gsoSize: new Uint16Array(TAP_BATCH),
    headers: new Uint16Array(TAP_BATCH),
    checksum: new Uint8Array(TAP_BATCH),
    gso: new Uint8Array(TAP_BATCH),
  }
  const nothing = (): void => {}
  return {
    device: {
      place: PLACE,
      name: () => 'tap0',
      watch: nothing,
      setOffloads: nothing,
      setPersistent: nothing,
      setCarrier: nothing,
      setUp: nothing,
      setMtu: nothing,
      close: nothing,
    },
    columns,
    write: () => 0,
    read: (memory) => received(columns, memory),
  }
}

const openQueue = (received: Receive): TapQueue =>
  new TapQueue(() => deviceOf(received), { name: 'tap0', multiQueue: false, onReady() {} })

test("a segment's headers end where its TCP header says, whatever the kernel says", () => {
  const queue = openQueue((columns, memory) => {
    columns.length[0] = 9000
    columns.checksum[0] = Checksum.BLANK
    columns.checksumStart[0] = 38
    columns.checksumOffset[0] = 16
    columns.gso[0] = Gso.TCPV4
    columns.gsoSize[0] = 1400
    columns.headers[0] = 250
    memory[38 + 12] = 0x8f
    return 1
  })
  const frames = new Frames(TAP_BATCH)
  const memory = new Uint8Array(queue.receiveBytes)
  expect(queue.receive(frames, memory)).toBe(1)
  expect([frames.count, frames.memory === memory]).toEqual([1, true])
  expect([frames.headers[0], frames.gsoSize[0], frames.checksumOffset[0]]).toEqual([70, 1400, 16])
})

test('frames that are no frames are left out, and the others keep their order', () => {
  const lengths = [13, 14, 65_536, 65_535, 60]
  const queue = openQueue((columns) => {
    columns.length.set(lengths)
    return lengths.length
  })
  const frames = new Frames(TAP_BATCH)
  expect(queue.receive(frames, new Uint8Array(0))).toBe(5)
  expect([...frames.length.subarray(0, frames.count)]).toEqual([14, 65_535, 60])
  expect([...frames.start.subarray(0, frames.count)]).toEqual([1, 3, 4].map((i) => i * PLACE))
})

test('a card whose memory is full gets frames all the same', async () => {
  let ready: (status: number) => void = () => {}
  const link = openTapWith({
    openTapDevice({ onReady }) {
      ready = onReady
      return deviceOf((columns, memory) => {
        columns.length[0] = 60
        memory.fill(7, 0, 60)
        return 1
      })
    },
  })
  const card = new TestCard()
  const full = (): never => {
    throw new ArenaFullError('full', {})
  }
  await card.plugInto({
    plug: (it) => link.plug(Object.assign(it, { memory: { allocate: full } })),
  })
  ready(0)
  expect(card.take()).toEqual([Array.from({ length: 60 }, () => 7)])
  await card.link.close()
})
