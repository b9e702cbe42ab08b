/**
 * Calls of the addon for a batch of requests. Each line of a log here is one call on Xen, and at
 * least one system call or hypercall. A call takes microseconds, JavaScript between calls
 * nanoseconds.
 */
import type { EvtchnBinding, Hypervisor } from '@xenkit/hypervisor'
import { BLKIF_OP } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import type { BlockStore } from '../../src/index.ts'
import { hooked } from '../../../backend/test/support/hooked-hypervisor.ts'
import { instantBatch } from '../support/instant-batch.ts'
import { RawFrontend, type RawRequest } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'

const { READ, WRITE } = BLKIF_OP

/** A hypervisor and a store that log their calls. */
class Log {
  readonly #calls: string[] = []
  /** Called with each logged call. */
  onCall: (call: string) => void = () => {}

  note(call: string): void {
    this.#calls.push(call)
    this.onCall(call)
  }

  /**
   * Returns the log and clears it. Spurious events, which the simulation sometimes delivers, are
   * left out.
   */
  take(): string[] {
    const calls = this.#calls.splice(0).join()
    return calls
      .replaceAll(/(^|,)event,unmask(?=,|$)/g, '')
      .split(',')
      .filter(Boolean)
  }

  readonly through = (dom0: Hypervisor): Hypervisor =>
    hooked(dom0, {
      bind: (bind, o, onEvent) =>
        this.#binding(
          bind(o, () => {
            this.note('event')
            onEvent()
          }),
        ),
      mapped: (mapping) => this.#mapping(mapping),
      mappedPages: (pages) => this.#mapping(pages),
      opened: (batch) => {
        for (const direction of ['copyIn', 'copyOut'] as const) {
          const copy = batch[direction].bind(batch)
          batch[direction] = (count) => {
            this.note(`${direction} ${count}`)
            return copy(count)
          }
        }
        return batch
      },
    })

  /** Moves no data and completes synchronously, as the addon does for data in the page cache. */
  readonly store: BlockStore = {
    sectors: 2 ** 20,
    read: () => this.note('read'),
    write: () => this.note('write'),
    openBatch: (o) => instantBatch(o, (count) => this.note(`submit ${count}`)),
  }

  #binding(binding: EvtchnBinding): EvtchnBinding {
    for (const call of ['notify', 'unmask'] as const) {
      const calls = binding[call].bind(binding)
      binding[call] = () => {
        this.note(call)
        calls()
      }
    }
    return binding
  }

  #mapping<T extends { close(): void }>(mapping: T): T {
    this.note('map')
    const close = mapping.close.bind(mapping)
    mapping.close = () => {
      this.note('unmap')
      close()
    }
    return mapping
  }
}

async function served(dataPath: 'copy' | 'persistent' | 'map') {
  const log = new Log()
  const r = await rig({ store: log.store, dataPath, through: log.through })
  await r.plug()
  const front = await RawFrontend.open(r.guest, { dataPages: 32, persistent: true })
  await front.device.connected()
  /** Puts requests with a page each on the ring. */
  const put = (count: number, request: RawRequest): void => {
    for (let i = 0; i < count; i++) {
      front.put({
        ...request,
        sector: BigInt(i * 64),
        segments: request.segments ?? [{ gref: front.data.grefs[i] ?? 0 }],
      })
    }
  }
  return {
    log,
    front,
    put,
    /**
     * Calls for `count` requests that are published together, by a guest that sleeps until the
     * first answer.
     */
    async calls(count: number, request: RawRequest): Promise<string[]> {
      log.take()
      put(count, request)
      front.send()
      await front.responses(count)
      // Until its turn is over.
      await new Promise(setImmediate)
      return log.take()
    },
    async [Symbol.asyncDispose]() {
      await front[Symbol.asyncDispose]()
      await r[Symbol.asyncDispose]()
    },
  }
}

describe('grant copies', () => {
  test('8 requests: one call moves, one copies, one notifies', async () => {
    await using s = await served('copy')
    expect(await s.calls(8, { operation: READ })).toEqual([
      'event',
      'submit 8',
      'copyOut 8',
      'notify',
      'unmask',
    ])
    expect(await s.calls(8, { operation: WRITE })).toEqual([
      'event',
      'copyIn 8',
      'submit 8',
      'notify',
      'unmask',
    ])
  })

  test('16 requests: twice that, and one notification', async () => {
    await using s = await served('copy')
    expect(await s.calls(16, { operation: READ })).toEqual([
      'event',
      'submit 8',
      'copyOut 8',
      'notify',
      'submit 8',
      'copyOut 8',
      'unmask',
    ])
    expect(await s.calls(16, { operation: WRITE })).toEqual([
      'event',
      'copyIn 8',
      'submit 8',
      'notify',
      'copyIn 8',
      'submit 8',
      'unmask',
    ])
  })

  test('indirect requests: their segments are fetched with one call, too', async () => {
    await using s = await served('copy')
    const segments = Array.from({ length: 16 }, (_, i) => ({ gref: s.front.data.grefs[i] ?? 0 }))
    expect(await s.calls(8, { indirect_op: READ, segments })).toEqual([
      'event',
      'copyIn 8',
      'submit 8',
      'copyOut 128',
      'notify',
      'unmask',
    ])
    expect(await s.calls(8, { indirect_op: WRITE, segments })).toEqual([
      'event',
      'copyIn 8',
      'copyIn 128',
      'submit 8',
      'notify',
      'unmask',
    ])
  })
})

describe('persistent grants', () => {
  test.each([READ, WRITE])(
    'operation %i: pages are mapped once; then one call moves, one notifies',
    async (operation) => {
      await using s = await served('persistent')
      const first = await s.calls(16, { operation })
      expect(first.filter((call) => call === 'map')).toHaveLength(16)
      expect(first).not.toContain('unmap')
      expect(await s.calls(8, { operation })).toEqual(['event', 'submit 8', 'notify', 'unmask'])
      expect(await s.calls(16, { operation })).toEqual([
        'event',
        'submit 8',
        'notify',
        'submit 8',
        'unmask',
      ])
    },
  )
})

test('mapping takes two calls for each request, which is why it is not the default', async () => {
  await using s = await served('map')
  const calls = await s.calls(32, { operation: READ })
  const of = (name: string): number => calls.filter((call) => call.startsWith(name)).length
  expect({
    map: of('map'),
    unmap: of('unmap'),
    submit: of('submit'),
    copy: of('copy'),
    notify: of('notify'),
  }).toEqual({ map: 32, unmap: 32, submit: 4, copy: 0, notify: 1 })
})

describe('notifications and wakes', () => {
  test('a guest that is awake gets no notification', async () => {
    await using s = await served('copy')
    const { ring, channel } = s.front
    // The guest has had the event that it asked for: now it polls.
    await s.calls(16, { operation: READ })
    s.log.take()
    for (let batch = 0; batch < 4; batch++) {
      s.put(32, { operation: READ })
      ring.publish()
      channel.notify()
      for (let answers = 0; answers < 32; answers += ring.drain(ring.size)) {
        await new Promise(setImmediate)
      }
    }
    expect(s.log.take().filter((call) => call === 'notify')).toEqual([])
  })

  test('a backend that is awake gets no event: 512 requests in 64 batches, one wake', async () => {
    await using s = await served('copy')
    const { ring } = s.front
    s.log.take()
    let [sent, asked, answered] = [8, 0, 0]
    // Whenever the backend has taken 8 requests, 8 more are there before it looks again. All are
    // less than a turn.
    s.log.onCall = (call) => {
      if (call !== 'submit 8' || sent === 512) return
      answered += ring.drain(ring.size)
      sent += 8
      s.put(8, { operation: READ })
      if (ring.publish()) asked++
    }
    s.put(8, { operation: READ })
    s.front.send()
    for (; answered < 512; answered += ring.drain(ring.size)) await new Promise(setImmediate)
    // Until its turn is over.
    await new Promise(setImmediate)
    const calls = s.log.take()
    expect(asked).toBe(0)
    expect(calls.filter((call) => call === 'event')).toHaveLength(1)
    expect(calls.filter((call) => call === 'submit 8')).toHaveLength(64)
    expect(calls.filter((call) => call === 'notify')).toHaveLength(1)
    expect(calls.filter((call) => call === 'unmask')).toHaveLength(1)
  })

  test('one request at a time, the guest asleep: a wake and a notification for each', async () => {
    await using s = await served('copy')
    for (let i = 0; i < 5; i++) {
      expect(await s.calls(1, { operation: READ })).toEqual([
        'event',
        'submit 1',
        'copyOut 1',
        'notify',
        'unmask',
      ])
    }
  })
})
