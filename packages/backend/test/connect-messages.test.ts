/**
 * A device of one ring with small messages: what its guests can rely on, and what they can't do.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { TURN } from '@xenkit/backend'
import { RingProtocolError } from '@xenkit/hypervisor'
import { type Answer, type ToyResponse, messageRig, messages } from './support/message-rig.ts'
import { until } from './support/until.ts'

/** Requests that fit on a ring: 4032 bytes hold 252 slots of 16, rounded down to a power of 2. */
const SLOTS = 128
const answer: Answer = ({ id, kind }) => ({ id, kind, status: 7 })

const idsOf = (slots: readonly Uint8Array[]): number[] =>
  slots.map((slot) => messages.response.decode(slot).id)

test('a response is as the device says, and zero in its padding and in the rest of its slot', async () => {
  await using r = await messageRig(answer)
  const front = await r.open()
  front.put(1, 5)
  front.send()
  const [slot] = await front.answers(1)
  expect([...(slot ?? [])]).toEqual([0, 0, 0, 0, 5, 0, 7, 0, ...Array<number>(8).fill(0)])
  await front.close()
})

test('each request has one response, whatever is answered at once, later or in which order', async () => {
  const batch = fc.array(fc.nat(3), { minLength: 1, maxLength: SLOTS })
  await fc.assert(
    fc.asyncProperty(fc.array(batch, { maxLength: 5 }), async (batches) => {
      await using r = await messageRig(({ id, kind }): ToyResponse | Promise<ToyResponse> => {
        const response = { id, kind, status: 7 }
        if (kind === 0) return response
        if (kind === 1) return Promise.resolve(response)
        return new Promise((resolve) =>
          kind === 2 ? setImmediate(resolve, response) : setTimeout(resolve, 1, response),
        )
      })
      const front = await r.open()
      let sent = 0
      for (const kinds of batches) {
        for (const kind of kinds) front.put(1, kind)
        front.send()
        const ids = idsOf(await front.answers(kinds.length))
        expect(ids.toSorted((a, b) => a - b)).toEqual(kinds.map(() => sent++))
      }
      await front.close()
      expect(front.take()).toEqual([])
    }),
    { numRuns: 15 },
  )
})

test('a guest has 64 requests answered at one time at most', async () => {
  const waiting: (() => void)[] = []
  let most = 0
  await using r = await messageRig(async ({ id, kind }) => {
    await new Promise<void>((resolve) => waiting.push(resolve))
    most = Math.max(most, waiting.length)
    return { id, kind, status: 0 }
  })
  const front = await r.open()
  front.put(SLOTS)
  front.send()
  await until(() => waiting.length === 64)
  let more = true
  setImmediate(() => (more = false))
  await until(() => !more)
  expect(waiting.length).toBe(64)
  const serve = setInterval(() => waiting.splice(0).forEach((resolve) => resolve()), 1)
  await front.answers(SLOTS)
  clearInterval(serve)
  await front.close()
})

test('a guest that floods its ring holds the event loop for one turn', async () => {
  let answered = 0
  await using r = await messageRig((request) => {
    answered++
    return answer(request)
  })
  const quiet = await r.open()
  const front = await r.open()
  const rounds: number[] = []
  // It asks again in the very moment in which it is answered, unless turns have no end at all.
  const fill = (): void => {
    front.take()
    if (rounds.length === 100 || answered > 16 * TURN) return
    front.put(front.opened.ring.free)
    front.send()
  }
  r.crowd.onAnswer(front.guest.domid, fill)
  fill()
  while (rounds.length < 100) {
    await new Promise((next) => setImmediate(next))
    rounds.push(answered)
    answered = 0
  }
  // An event and a planned turn may come in one round of the loop. A request is 4 units of work.
  expect(Math.max(...rounds)).toBeLessThanOrEqual((2 * TURN) / 4)
  expect(Math.max(...rounds)).toBeGreaterThan(TURN / 4 / 2)
  await quiet.close()
  await front.close()
})

test('an index that no guest can have closes that device, and no other', async () => {
  await using r = await messageRig(answer)
  const [good, bad] = [await r.open(), await r.open()]
  bad.poke('req_prod', 1_000)
  bad.opened.channel.notify()
  await bad.device.backendClosing()
  expect(r.events.filter(({ kind }) => kind === 'failed')).toMatchObject([
    { device: { frontendDomid: bad.guest.domid }, error: expect.any(RingProtocolError) },
  ])
  good.put()
  good.send()
  expect(idsOf(await good.answers(1))).toEqual([0])
  await good.close()
  await bad.close()
})

test.each([
  [
    'throws',
    () => {
      throw new Error('a fault of the device')
    },
  ],
  ['rejects', () => Promise.reject(new Error('a fault of the device'))],
] satisfies [string, Answer][])(
  'a device that %s is closed, and requests in flight with it',
  async (_, fails) => {
    let resolve = (): void => {}
    const slow = new Promise<void>((done) => (resolve = done))
    await using r = await messageRig((request) =>
      request.kind === 1 ? slow.then(() => answer(request)) : fails(),
    )
    const front = await r.open()
    front.put(1, 1)
    front.put(1, 0)
    front.send()
    await until(() => r.events.some(({ kind }) => kind === 'failed'))
    resolve()
    await front.close()
    expect(front.take()).toEqual([])
    expect(r.events.filter(({ kind }) => kind === 'failed').length).toBe(1)
  },
)

test.each(['the guest closes', 'the service ends'])(
  'requests in flight are answered before the ring is released when %s',
  async (how) => {
    let resolve = (): void => {}
    const slow = new Promise<void>((done) => (resolve = done))
    let started = 0
    await using r = await messageRig(async (request) => {
      started++
      await slow
      return answer(request)
    })
    const front = await r.open()
    front.put(3)
    front.send()
    await until(() => started === 3)
    const stopped = how === 'the service ends' ? r.stop() : undefined
    if (stopped) await front.device.backendClosing()
    let isClosed = false
    const closed = front.device.close().then(() => (isClosed = true))
    for (let i = 0; i < 20; i++) await new Promise((next) => setImmediate(next))
    expect(isClosed).toBe(false)
    resolve()
    await Promise.all([closed, stopped])
    expect(idsOf(front.take())).toEqual([0, 1, 2])
    front.release()
  },
)
