import { describe, expect, test, vi } from 'vitest'
import { EventChannel } from '../src/index.ts'
import { FakeEvtchn } from './support/fake-evtchn.ts'

const unexpected = (error: unknown): void => expect.unreachable(String(error))

function open(): { xen: FakeEvtchn; channel: EventChannel } {
  const xen = new FakeEvtchn()
  return { xen, channel: EventChannel.bindInterdomain(xen, { domid: 1, port: 3 }) }
}

const fail = (text: string) => () => {
  throw new Error(text)
}

const microtasks = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('a handler', () => {
  test('runs once per wake, masked, and the port is unmasked after it', () => {
    const { xen, channel } = open()
    const maskedDuring: boolean[] = []
    channel.handle(() => maskedDuring.push(xen.masked), unexpected)
    for (let i = 0; i < 3; i++) xen.send()
    expect(xen.deliver()).toBe(true)
    expect(xen.deliver()).toBe(false)
    expect(xen.sendAndDeliver()).toBe(true)
    expect(maskedDuring).toEqual([true, true])
    expect([xen.masked, xen.unmasks]).toEqual([false, 2])
  })

  test.each([false, true])(
    'runs once more for events that come while it runs (delivered in unmask: %s)',
    (deliversInUnmask) => {
      const { xen, channel } = open()
      xen.deliversInUnmask = deliversInUnmask
      let runs = 0
      channel.handle(() => {
        if (runs++ === 0) for (let i = 0; i < 5; i++) xen.send()
      }, unexpected)
      xen.sendAndDeliver()
      while (xen.deliver());
      expect(runs).toBe(2)
      expect(xen.masked).toBe(false)
    },
  )

  test('that throws is reported, and the port is unmasked all the same', () => {
    const { xen, channel } = open()
    const errors: unknown[] = []
    const fault = new Error('fault')
    channel.handle(
      () => {
        throw fault
      },
      (error) => errors.push(error),
    )
    xen.sendAndDeliver()
    expect(errors).toEqual([fault])
    expect(xen.masked).toBe(false)
    expect(xen.sendAndDeliver()).toBe(true)
    expect(errors).toEqual([fault, fault])
  })

  test('leaves the port unmasked even if the report of its error throws', () => {
    const { xen, channel } = open()
    channel.handle(fail('handler'), fail('report'))
    expect(() => xen.sendAndDeliver()).toThrow('report')
    expect(xen.masked).toBe(false)
  })

  test('reports an unmask that fails', () => {
    const { xen, channel } = open()
    const errors: unknown[] = []
    const refusal = new Error('unmask')
    channel.handle(
      () => {},
      (error) => errors.push(error),
    )
    xen.refusesUnmask = refusal
    xen.sendAndDeliver()
    expect(errors).toEqual([refusal])
  })

  test('runs for an event that came before it, but not within the call of handle', async () => {
    const { xen, channel } = open()
    xen.sendAndDeliver()
    const handler = vi.fn<() => void>()
    channel.handle(handler, unexpected)
    expect(handler).not.toHaveBeenCalled()
    await microtasks()
    expect(handler).toHaveBeenCalledTimes(1)
    expect(xen.masked).toBe(false)
  })

  test('may follow a wait on the same channel', async () => {
    const { xen, channel } = open()
    xen.sendAndDeliver()
    await channel.wait()
    const handler = vi.fn<() => void>()
    channel.handle(handler, unexpected)
    await microtasks()
    expect(xen.masked).toBe(false)
    xen.sendAndDeliver()
    expect(handler).toHaveBeenCalledTimes(2)
  })

  test('may close the channel', () => {
    const { xen, channel } = open()
    channel.handle(() => channel.close(), unexpected)
    xen.sendAndDeliver()
    expect([xen.closed, xen.unmasks]).toEqual([true, 0])
  })

  test('does not run on a closed channel', async () => {
    const { xen, channel } = open()
    xen.sendAndDeliver()
    const handler = vi.fn<() => void>()
    channel.handle(handler, unexpected)
    channel.close()
    await microtasks()
    expect(handler).not.toHaveBeenCalled()
  })

  test('excludes a second handler and wait', async () => {
    const { channel } = open()
    channel.handle(() => {}, unexpected)
    expect(() => channel.handle(() => {}, unexpected)).toThrow('port 7 has a handler')
    await expect(channel.wait()).rejects.toThrow(TypeError)
  })
})

test('notify reaches the other end, close is idempotent, and a channel is a disposable', () => {
  const xen = new FakeEvtchn()
  {
    using channel = EventChannel.bindUnbound(xen, { domid: 0 })
    expect([channel.port, channel.closed]).toEqual([7, false])
    channel.notify()
    channel.close()
    expect(channel.closed).toBe(true)
  }
  expect([xen.notifications, xen.closed]).toEqual([1, true])
})
