/** A served card, from the link's side and the toolstack's, while its guest uses it. */
import { Checksum, Frames } from '@xenkit/frames'
import { NegotiationError } from '@xenkit/hypervisor'
import { expect, test } from 'vitest'
import { openVif, type Vif } from '../../src/index.ts'
import { until } from '../../../backend/test/support/until.ts'
import { bytesOf } from '../support/connected-vif.ts'
import { Served } from '../support/served.ts'

const BROADCAST = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
const GROUP = [0x01, 0, 0x5e, 0, 0, 9]

function frameTo(address: readonly number[], length = 60): Uint8Array {
  const frame = bytesOf(length)
  frame.set(address)
  return frame
}

/** Sends frames from the link to the card's guest. */
function deliver(served: Served, ...all: readonly Uint8Array[]): void {
  const memory = new Uint8Array(all.reduce((sum, { length }) => sum + length, 0))
  const frames = new Frames(all.length)
  frames.reset(memory)
  let start = 0
  for (const frame of all) {
    memory.set(frame, start)
    frames.add({ start, length: frame.length })
    start += frame.length
  }
  served.link.end.card.send(frames)
}

async function connected(o: Parameters<typeof openVif>[1] = { devid: 0 }): Promise<{
  readonly served: Served
  readonly vif: Vif
  [Symbol.asyncDispose](): Promise<void>
}> {
  const served = await Served.open()
  served.serve()
  const vif = await openVif(served.guest, o)
  return {
    served,
    vif,
    async [Symbol.asyncDispose]() {
      await vif.close()
      await served[Symbol.asyncDispose]()
    },
  }
}

test("the guest's carrier follows the link's", async () => {
  await using c = await connected()
  await c.served.node('carrier', '1')
  for (const up of [false, true]) {
    const told = new Promise<boolean>((resolve) => c.vif.onCarrier(resolve))
    c.served.link.end.card.carrier?.(up)
    expect(await told).toBe(up)
    await c.served.node('carrier', up ? '1' : '0')
    await c.served.node('state', '4')
  }
})

test("frames that can't be completed for the guest are counted", async () => {
  await using c = await connected()
  const { card } = await c.served.event('connected')
  const frames = new Frames(2)
  frames.reset(frameTo(BROADCAST))
  frames.add({ start: 0, length: 60 })
  // A checksum's place beyond the frame.
  const blank = { checksum: Checksum.BLANK, checksumStart: 50, checksumOffset: 16 }
  frames.add({ start: 0, length: 60, ...blank })
  c.served.link.end.card.send(frames)
  expect(card.stats).toMatchObject({ framesReceived: 1, receiveDrops: 1 })
  c.served.link.end.card.send(frames)
  expect(card.stats).toMatchObject({ framesReceived: 2, receiveDrops: 2 })
})

test('headroom is left in packets once the guest has asked for it by Reconfiguring', async () => {
  await using c = await connected()
  const arriving = c.vif[Symbol.asyncIterator]()
  for (const headroom of [0, 256, 0]) {
    await c.vif.setXdpHeadroom(headroom)
    const frame = frameTo(BROADCAST, 1514)
    deliver(c.served, frame)
    expect((await arriving.next()).value).toEqual(frame)
  }
})

test('a guest adds an address to its multicast filter, and turns the filter off', async () => {
  await using c = await connected({ devid: 0, multicastControl: true })
  const arriving = c.vif[Symbol.asyncIterator]()
  const next = async (): Promise<unknown> => (await arriving.next()).value
  deliver(c.served, frameTo(GROUP), frameTo(BROADCAST))
  expect(await next()).toEqual(frameTo(BROADCAST))
  c.vif.setMulticast(Uint8Array.from(GROUP), true)
  await c.vif.sendFrame(frameTo(BROADCAST))
  await until(() => c.served.link.end.got.length === 1)
  deliver(c.served, frameTo(GROUP))
  expect(await next()).toEqual(frameTo(GROUP))
  // Off: the guest gets every group's frames. The backend learns it by its watch.
  const device = `/local/domain/${c.served.guest.domid}/device/vif/0`
  await c.served.xs.write(`${device}/request-multicast-control`, '0')
  const other = GROUP.with(5, 10)
  await until(() => {
    deliver(c.served, frameTo(other))
    return c.vif.counts.receivedFrames > 2
  })
  expect(await next()).toEqual(frameTo(other))
})

test('frames of a flow come by one queue, those of others by all of them', async () => {
  await using c = await connected({ devid: 0, queues: 2 })
  const queues = new Map<number, Set<number>>()
  let count = 0
  const all = new Promise<void>((resolve) => {
    c.vif.onFrames((frames, queue) => {
      for (let i = 0; i < frames.count; i++) {
        // The last byte of the source address, which is the flow here.
        const flow = frames.bytes(i)[29] ?? 0
        queues.set(flow, (queues.get(flow) ?? new Set()).add(queue))
        if (++count === 64) resolve()
      }
    })
  })
  for (let i = 0; i < 64; i++) deliver(c.served, ipFrame(i % 16))
  await all
  expect([...queues.values()].map(({ size }) => size)).toEqual(Array.from({ length: 16 }, () => 1))
  expect(new Set([...queues.values()].flatMap((used) => [...used])).size).toBe(2)
})

/** A UDP packet over IPv4 from 10.0.0.<flow>. */
function ipFrame(flow: number): Uint8Array {
  const frame = new Uint8Array(60)
  frame.set(BROADCAST)
  frame.set([0x08, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, flow, 10, 0, 1, 1], 12)
  frame.set([0, 99, 0, 100, 0, 26], 34)
  return frame
}

test('a rate that the toolstack sets is followed at once', async () => {
  await using c = await connected()
  await c.served.xs.write(`${c.served.path()}/rate`, '1000,1')
  await c.served.event('changed')
  await c.vif.sendFrame(frameTo(BROADCAST))
  await c.served.xs.write(`${c.served.path()}/rate`, 'fast')
  expect((await c.served.event('refused')).error).toMatchObject({ details: { value: 'fast' } })
})

test('a link that is lost for good closes its card, with its error', async () => {
  await using c = await connected()
  c.served.link.end.card.fail(new Error('the cable is cut'))
  expect((await c.served.event('failed')).error).toMatchObject({ message: 'the cable is cut' })
  await c.served.event('closed')
  expect(c.vif.carrier).toBe(false)
})

test.each([true, false])(
  'a link that throws at carrier %s fails its card alone',
  async (thrown) => {
    await using served = await Served.open()
    served.serve()
    await served.event('offered')
    const { end } = served.link
    const lost = new Error('no such carrier')
    end.carrier = (up) => {
      if (up === thrown) throw lost
    }
    const opening = openVif(served.guest, { devid: 0 })
    if (thrown) await expect(opening).rejects.toThrow(NegotiationError)
    else await (await opening).close()
    expect((await served.event('failed')).error).toBe(lost)
  },
)
