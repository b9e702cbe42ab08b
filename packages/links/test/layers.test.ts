/** Links on top of links: what passes through all of them, and how they close. */
import { PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { expect, test, vi } from 'vitest'
import {
  ALL_OFFLOADS,
  type Card,
  type Link,
  NO_OFFLOADS,
  type Offloads,
  type PluggedLink,
} from '@xenkit/frames'
import {
  captureLink,
  faultLink,
  filterLink,
  mirrorLink,
  openCable,
  openCapture,
  openMirror,
  openSwitch,
  rateLink,
} from '../src/index.ts'
import { batchOf, ethernet, macOf } from './support/frames.ts'
import { readPcapng } from './support/pcapng-reader.ts'
import { TestCard } from './support/test-card.ts'

/** A link for tests, which keeps the card that is plugged in. */
class BaseLink implements Link {
  card: Card | undefined
  readonly carriers: boolean[] = []
  readonly pauses: boolean[] = []
  offloads: Offloads = ALL_OFFLOADS
  closed = 0

  async plug(card: Card): Promise<PluggedLink> {
    this.card = card
    const { offloads } = this
    return {
      offloads,
      send: () => {},
      carrier: (up) => void this.carriers.push(up),
      pause: (paused) => void this.pauses.push(paused),
      close: () => void this.closed++,
    }
  }
}

const filtered = (base: Link): Link => filterLink(base, () => true)

test('a layer passes on all that its ends say', async () => {
  const base = new BaseLink()
  const pauses: boolean[] = []
  const memory = { allocate: () => ({ bytes: new Uint8Array(0), close: () => {} }) }
  const card = new TestCard({ name: 'vif7.3', mac: macOf(7), memory })
  const pausing = Object.assign(card, { pause: (paused: boolean) => void pauses.push(paused) })
  const link = await filtered(base).plug(pausing)
  expect(base.card).toMatchObject({ name: 'vif7.3', domid: 1, devid: 0, mac: card.mac, memory })
  expect(base.card?.offloads).toEqual(ALL_OFFLOADS)
  base.card?.carrier?.(true)
  base.card?.pause?.(true)
  base.card?.fail('lost')
  expect([card.carriers, pauses, card.failures]).toEqual([[true], [true], ['lost']])
  link.carrier?.(true)
  link.pause?.(true)
  await link.close()
  expect([base.carriers, base.pauses, base.closed]).toEqual([[true], [true], 1])
})

test("an end that can't be paused can't be through a layer", async () => {
  const base = new BaseLink()
  await filtered(base).plug(new TestCard())
  expect(base.card?.pause).toBeUndefined()
  expect((await filtered(openCable()[0]).plug(new TestCard())).pause).toBeTypeOf('function')
  expect((await filtered(openSwitch().port()).plug(new TestCard())).pause).toBeUndefined()
})

test('offloads are those of the far end, unless the layer needs complete frames', async () => {
  const base = new BaseLink()
  base.offloads = { ...ALL_OFFLOADS, gso6: false }
  expect((await filtered(base).plug(new TestCard())).offloads).toEqual(base.offloads)
  expect((await filtered(base).plug(new TestCard({ offloads: NO_OFFLOADS }))).offloads).toEqual(
    base.offloads,
  )
  const bad = faultLink(base, () => undefined)
  expect((await filtered(bad).plug(new TestCard())).offloads).toEqual(NO_OFFLOADS)
  expect(base.card?.offloads).toEqual(NO_OFFLOADS)
})

test('when the link below cannot be plugged, what the layers hold is closed', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const refusals: Link['plug'][] = [
      () => Promise.reject(new Error('busy')),
      () => {
        throw new Error('busy')
      },
    ]
    for (const refuse of refusals) {
      const plug: Link['plug'] = (card) => {
        // A frame that waits for tokens, and a delayed one.
        for (let i = 0; i < 2; i++) card.send(batchOf(ethernet({})))
        return refuse(card)
      }
      const slow = rateLink({ plug }, { toCard: { bytesPerSecond: 1, burst: 1 } })
      const late = faultLink({ plug }, () => ({ delayMs: 10 }))
      for (const link of [slow, late]) {
        await expect(async () => link.plug(new TestCard())).rejects.toThrow('busy')
        expect(vi.getTimerCount()).toBe(0)
      }
    }
  } finally {
    vi.useRealTimers()
  }
})

test('all links compose', async () => {
  const sink = new PassThrough()
  const bytes = buffer(sink)
  const capture = await openCapture(sink)
  const [monitor, span] = openCable()
  const watching = await new TestCard().plugInto(monitor)
  const mirror = await openMirror(span)
  const sw = openSwitch()
  const all = (base: Link): Link =>
    filterLink(
      captureLink(
        rateLink(
          mirrorLink(
            faultLink(base, ({ bytes }) => ({ isLost: bytes === 15 })),
            mirror,
          ),
          { fromCard: { bytesPerSecond: 1e9 } },
        ),
        capture,
      ),
      ({ length }) => length !== 16,
    )
  const a = await new TestCard({ name: 'vif1.0' }).plugInto(all(sw.port()))
  const b = await new TestCard({ name: 'vif2.0' }).plugInto(all(sw.port()))
  const frame = (number: number, more: number): number[] =>
    ethernet({ from: macOf(number), payload: Array.from({ length: more }, () => 0) })
  a.transmit(frame(1, 0), frame(1, 1), frame(1, 2), frame(1, 3))
  b.transmit(frame(2, 0))
  expect(b.take()).toEqual([frame(1, 0), frame(1, 3)])
  expect(a.take()).toEqual([frame(2, 0)])
  await a.link.close()
  await b.link.close()
  await sw.close()
  await mirror.close()
  await capture.close()
  expect(watching.take().map(({ length }) => length)).toEqual([14, 15, 17, 14, 17, 14, 14])
  const { packets } = readPcapng(await bytes)
  expect(packets.map(({ interfaceId, data }) => [interfaceId, data.length])).toEqual([
    [0, 14],
    [0, 15],
    [0, 17],
    [1, 14],
    [1, 17],
    [1, 14],
    [0, 14],
  ])
})
