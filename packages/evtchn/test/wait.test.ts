import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { EventChannel } from '../src/index.ts'
import { FakeEvtchn } from './support/fake-evtchn.ts'

function open(): { xen: FakeEvtchn; channel: EventChannel } {
  const xen = new FakeEvtchn()
  return { xen, channel: EventChannel.bindUnbound(xen, { domid: 1 }) }
}

/** Returns whether the promise is pending, resolved or rejected once all microtasks have run. */
async function stateOf(promise: Promise<unknown>): Promise<unknown> {
  const pending = Symbol('pending')
  const later = new Promise((resolve) => setImmediate(() => resolve(pending)))
  const first = await Promise.race([promise, later])
  return first === pending ? 'pending' : first
}

describe('wait', () => {
  test('remembers an event that came while nobody waited; any number are one', async () => {
    const { xen, channel } = open()
    for (let i = 0; i < 9; i++) xen.sendAndDeliver()
    expect(await stateOf(channel.wait())).toBe(true)
    // Eight of the events were sent while the port was masked. They became one pending event.
    const next = channel.wait()
    xen.deliver()
    expect(await stateOf(next)).toBe(true)
    const third = channel.wait()
    xen.deliver()
    expect(await stateOf(third)).toBe('pending')
    channel.close()
    expect(await third).toBe(false)
  })

  test('keeps the port masked until the next wait, so that a storm costs one turn', async () => {
    const { xen, channel } = open()
    xen.sendAndDeliver()
    await channel.wait()
    expect(xen.masked).toBe(true)
    for (let i = 0; i < 1000; i++) xen.sendAndDeliver()
    expect(xen.unmasks).toBe(0)
    const next = channel.wait()
    expect(xen.masked).toBe(false)
    xen.deliver()
    expect(await next).toBe(true)
  })

  test('takes an event that is delivered within unmask', async () => {
    const { xen, channel } = open()
    xen.deliversInUnmask = true
    xen.sendAndDeliver()
    await channel.wait()
    xen.send()
    expect(await stateOf(channel.wait())).toBe(true)
  })

  test('gives up when its signal aborts, and loses no event by that', async () => {
    const { xen, channel } = open()
    const abort = new AbortController()
    const waiting = channel.wait({ signal: abort.signal })
    const reason = new Error('enough')
    abort.abort(reason)
    await expect(waiting).rejects.toBe(reason)
    await expect(channel.wait({ signal: abort.signal })).rejects.toBe(reason)
    xen.sendAndDeliver()
    await expect(channel.wait({ signal: abort.signal })).rejects.toBe(reason)
    expect(await stateOf(channel.wait())).toBe(true)
  })

  test('removes its listener from the signal when it ends', async () => {
    const { xen, channel } = open()
    const abort = new AbortController()
    const waiting = channel.wait({ signal: abort.signal })
    xen.sendAndDeliver()
    expect(await waiting).toBe(true)
    const next = channel.wait()
    abort.abort()
    expect(await stateOf(next)).toBe('pending')
    channel.close()
  })

  test('refuses a second wait while one is pending', async () => {
    const { channel } = open()
    const waiting = channel.wait()
    await expect(channel.wait()).rejects.toThrow('port 7 is waited on already')
    expect(() =>
      channel.handle(
        () => {},
        () => {},
      ),
    ).toThrow(TypeError)
    channel.close()
    expect(await waiting).toBe(false)
    expect(await channel.wait()).toBe(false)
  })
})

describe('for await', () => {
  test('takes one turn per wake and ends with the channel', async () => {
    const { xen, channel } = open()
    let turns = 0
    const done = (async () => {
      for await (const _ of channel) {
        turns++
        if (turns === 1) xen.send()
        if (turns === 3) channel.close()
      }
    })()
    for (let i = 0; i < 3; i++) {
      await stateOf(done)
      if (!xen.pending) xen.send()
      xen.deliver()
    }
    await done
    expect(turns).toBe(3)
  })

  test('may be left and started again', async () => {
    const { xen, channel } = open()
    xen.sendAndDeliver()
    for await (const _ of channel) break
    xen.send() // the port is masked, so the event stays pending
    const again = (async () => {
      for await (const _ of channel) return 'woken'
      return 'closed'
    })()
    await stateOf(again)
    xen.deliver()
    expect(await again).toBe('woken')
  })

  test('ends with its signal', async () => {
    const { channel } = open()
    const abort = new AbortController()
    const iteration = (async () => {
      for await (const _ of channel.events({ signal: abort.signal })) expect.unreachable()
    })()
    abort.abort(new Error('enough'))
    await expect(iteration).rejects.toThrow('enough')
  })
})

/**
 * A peer publishes `total` pieces of work and sends one event for each. After each event the
 * channel's owner takes all work that it finds. fast-check's scheduler chooses when events are
 * delivered and when the owner runs.
 */
async function race(
  s: fc.Scheduler,
  o: { total: number; handler: boolean },
): Promise<{ done: number; turns: number; errors: unknown[] }> {
  const { xen, channel } = open()
  const result: { done: number; turns: number; errors: unknown[] } = {
    done: 0,
    turns: 0,
    errors: [],
  }
  let published = 0
  const look = (): void => {
    result.turns++
    result.done = published
  }
  const iterate = async (): Promise<void> => {
    for await (const _ of channel) {
      await s.schedule(Promise.resolve(), 'looks')
      look()
      await s.schedule(Promise.resolve(), 'goes back to wait')
    }
  }
  const iterating = o.handler ? Promise.resolve() : iterate()
  if (o.handler) channel.handle(look, (error) => result.errors.push(error))
  const publish = async (): Promise<void> => {
    await s.schedule(Promise.resolve(), 'publishes')
    published++
    xen.send()
  }
  const deliver = async (): Promise<void> => {
    await s.schedule(Promise.resolve(), 'delivers')
    xen.deliver()
  }
  const peer = Array.from({ length: o.total }, () => [publish(), deliver()]).flat()
  await s.waitIdle()
  while (xen.deliver()) await s.waitIdle()
  channel.close()
  await s.waitIdle()
  await Promise.all([iterating, ...peer])
  return result
}

test.each([{ handler: false }, { handler: true }])(
  'all work is taken, whatever the order of sending, delivery and work (handler: $handler)',
  async ({ handler }) => {
    const property = fc.asyncProperty(
      fc.scheduler(),
      fc.integer({ min: 1, max: 12 }),
      async (s, total) => {
        const { done, turns, errors } = await race(s, { total, handler })
        expect([done, errors]).toEqual([total, []])
        expect(turns).toBeLessThanOrEqual(total)
      },
    )
    await expect(fc.assert(property, { numRuns: 300 })).resolves.toBeUndefined()
  },
)
