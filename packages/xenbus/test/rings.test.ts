/**
 * Rings described by xenstore nodes: a frontend opens and publishes them, a backend reads and
 * attaches them.
 */
import type { EventChannel } from '@xenkit/evtchn'
import { GrantTable } from '@xenkit/grant'
import { PAGE_SIZE } from '@xenkit/hypervisor'
import { BackRing, ByteRingConsumer, ByteRingProducer, FrontRing } from '@xenkit/ring'
import { type SimDomain, createMachine } from '@xenkit/sim'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type OpenRingOptions,
  type PublishedRing,
  type RingNodes,
  attachRing,
  isStillPublished,
  openRing,
  queueDirectories,
  readRings,
} from '../src/index.ts'

const PATH = '/local/domain/1/device/toy/0'
const SLOT = 64

/** Creates a machine with a frontend's and a backend's domain, checked for leaks at the end. */
async function ends() {
  const machine = createMachine({ pages: 128, grants: 128, ports: 16 })
  const dom0 = machine.createDomain()
  const guest = machine.createDomain()
  const xs = await openXenstore(dom0.xenstore)
  const grants = new GrantTable(dom0.grants)
  return {
    machine,
    dom0,
    guest,
    xs,
    grants,
    open: (nodes: RingNodes & Partial<OpenRingOptions<FrontRing>> = {}) =>
      openRing(guest, {
        domid: 0,
        init: (bytes) => FrontRing.init({ bytes, slotSize: SLOT }),
        ...nodes,
      }),
    attach: (published: PublishedRing & { readonly channel?: EventChannel }) =>
      attachRing(dom0, {
        domid: guest.domid,
        grants,
        attach: (bytes) => BackRing.attach({ bytes, slotSize: SLOT }),
        ...published,
      }),
    async [Symbol.asyncDispose]() {
      xs.close()
      await machine[Symbol.asyncDispose]()
    },
  }
}

async function write(xs: XenstoreClient, nodes: Readonly<Record<string, string>>): Promise<void> {
  await xs.rm(PATH)
  for (const [name, value] of Object.entries(nodes)) await xs.write(`${PATH}/${name}`, value)
}

/** Sends a request and its answer through a ring, with an event each way. */
async function exchange(
  front: ReturnType<Awaited<ReturnType<typeof ends>>['open']>,
  back: Awaited<ReturnType<Awaited<ReturnType<typeof ends>>['attach']>>,
): Promise<number> {
  front.bytes[front.ring.reserveRequest()] = 7
  if (front.ring.publish()) front.channel.notify()
  await back.channel.wait()
  back.ring.drain(back.ring.size)
  const request = new Uint8Array(back.ring.image)[back.ring.messageAt(0)] ?? 0
  back.bytes[back.ring.reserveResponse()] = request + 1
  if (back.ring.publish()) back.channel.notify()
  await front.channel.wait()
  front.ring.drain(front.ring.size)
  return new Uint8Array(front.ring.image)[front.ring.messageAt(0)] ?? 0
}

describe('both ends', () => {
  test.each([
    ['one page', {}, ['event-channel', 'ring-ref']],
    ['one page by order', { order: 0 }, ['event-channel', 'ring-ref0']],
    [
      'four pages of a queue',
      { order: 2, directory: 'queue-3' },
      [
        'queue-3/event-channel',
        'queue-3/ring-ref0',
        'queue-3/ring-ref1',
        'queue-3/ring-ref2',
        'queue-3/ring-ref3',
      ],
    ],
    [
      'names of their own',
      { ref: 'ctrl-ring-ref', port: 'event-channel-ctrl' },
      ['ctrl-ring-ref', 'event-channel-ctrl'],
    ],
  ] as const)('%s: requests and events pass', async (_, nodes, names) => {
    await using r = await ends()
    const front = r.open(nodes)
    expect(Object.keys(front.nodes).toSorted()).toEqual(names)
    await write(r.xs, front.nodes)
    const [published] = await readRings(r.xs, PATH, [nodes])
    expect(published.grefs).toHaveLength(front.bytes.length / PAGE_SIZE)
    const back = await r.attach(published)
    expect(await exchange(front, back)).toBe(8)
    back.close()
    back.close()
    front.close()
    front.close()
  })

  test('two rings of a queue share an event channel, as those of a network card do', async () => {
    await using r = await ends()
    const tx = r.open({ ref: 'tx-ring-ref' })
    const rx = r.open({ ref: 'rx-ring-ref', channel: tx.channel })
    await write(r.xs, { ...tx.nodes, ...rx.nodes })
    const names = [{ ref: 'tx-ring-ref' }, { ref: 'rx-ring-ref' }] as const
    const [txPublished, rxPublished] = await readRings(r.xs, PATH, names)
    expect(rxPublished.port).toBe(txPublished.port)
    const txBack = await r.attach(txPublished)
    const rxBack = await r.attach({ ...rxPublished, channel: txBack.channel })
    rxBack.close()
    rx.close()
    // The closed ring `rx` only shared the channel of `tx`, so it is still open.
    expect(await exchange(tx, txBack)).toBe(8)
    txBack.close()
    tx.close()
  })

  test('rings of bytes, as a console has', async () => {
    await using r = await ends()
    const memory = (page: Uint8Array) =>
      ({ name: 'in', page, data: page.subarray(0, 1024), prod: 3076, cons: 3072 }) as const
    const front = openRing(r.guest, {
      domid: 0,
      init: (page) => new ByteRingConsumer(memory(page)),
    })
    await write(r.xs, front.nodes)
    const [published] = await readRings(r.xs, PATH, [{}])
    const back = await attachRing(r.dom0, {
      domid: r.guest.domid,
      grants: r.grants,
      attach: (page) => new ByteRingProducer(memory(page)),
      ...published,
    })
    back.ring.write(Uint8Array.of(1, 2, 3))
    back.channel.notify()
    await front.channel.wait()
    const bytes = new Uint8Array(8)
    expect(front.ring.read(bytes)).toBe(3)
    back.close()
    front.close()
  })

  test('whatever the names: what one end publishes the other reads', async () => {
    await using r = await ends()
    const order = fc.option(fc.nat(2), { nil: undefined })
    const layouts = fc.tuple(fc.integer({ min: 1, max: 3 }), order, fc.boolean())
    await fc.assert(
      fc.asyncProperty(layouts, async ([count, order, isSplit]) => {
        const names = queueDirectories(count).flatMap((directory): RingNodes[] => [
          {
            directory,
            order,
            ref: 'tx-ring-ref',
            port: isSplit ? 'event-channel-tx' : 'event-channel',
          },
          {
            directory,
            order,
            ref: 'rx-ring-ref',
            port: isSplit ? 'event-channel-rx' : 'event-channel',
          },
        ])
        const rings = names.map((nodes) => r.open(nodes))
        // Without split channels both rings name the node `event-channel`; the first ring's port is
        // kept.
        const nodes = Object.assign({}, ...rings.map((ring) => ring.nodes).toReversed())
        await write(r.xs, nodes)
        const published = await readRings(r.xs, PATH, names)
        expect(published.map(({ grefs }) => grefs.length)).toEqual(
          names.map(() => 1 << (order ?? 0)),
        )
        for (const [i, { grefs, port }] of published.entries()) {
          const attached = isSplit || i % 2 === 0 ? await r.attach({ grefs, port }) : undefined
          expect(attached?.bytes.length ?? 0).toBe(attached ? grefs.length * PAGE_SIZE : 0)
          attached?.close()
        }
        for (const ring of rings) ring.close()
      }),
      { numRuns: 30 },
    )
  })
})

test('several queues have directories; one has none', () => {
  expect(queueDirectories(1)).toEqual([''])
  expect(queueDirectories(3)).toEqual(['queue-0', 'queue-1', 'queue-2'])
})

describe('what a frontend must not publish', () => {
  const right = { 'ring-ref': '8', 'event-channel': '3' }
  const two = {
    'queue-0/ring-ref0': '8',
    'queue-0/ring-ref1': '9',
    'queue-0/event-channel': '3',
    'queue-1/ring-ref0': '10',
    'queue-1/ring-ref1': '11',
    'queue-1/event-channel': '4',
  }
  const oneRing: readonly RingNodes[] = [{}]
  const twoRings = queueDirectories(2).map((directory): RingNodes => ({ directory, order: 1 }))

  test.each([
    [oneRing, right, 'ring-ref', undefined],
    [oneRing, right, 'ring-ref', '08'],
    [oneRing, right, 'ring-ref', '4294967296'],
    [oneRing, right, 'event-channel', undefined],
    [oneRing, right, 'event-channel', '0'],
    [oneRing, right, 'event-channel', '-1'],
    [twoRings, two, 'queue-1/ring-ref1', undefined],
    [twoRings, two, 'queue-0/ring-ref1', '9 '],
    [twoRings, two, 'queue-1/event-channel', 'x'],
  ])(
    '%# a node that is missing or no such number: the error names it',
    async (rings, nodes, name, value) => {
      await using r = await ends()
      await write(r.xs, { ...nodes, ...(value === undefined ? {} : { [name]: value }) })
      if (value === undefined) await r.xs.rm(`${PATH}/${name}`)
      await expect(readRings(r.xs, PATH, rings)).rejects.toMatchObject({
        code: 'ERR_XEN_NEGOTIATION',
        details: { node: `${PATH}/${name}`, value },
      })
    },
  )

  test.each([
    ['queue-0/ring-ref1', '8', 'queue-0/ring-ref0'],
    ['queue-1/ring-ref0', '9', 'queue-0/ring-ref1'],
    ['queue-1/event-channel', '3', 'queue-0/event-channel'],
  ])('"%s" with the page or port of another: the error names both', async (name, value, other) => {
    await using r = await ends()
    await write(r.xs, { ...two, [name]: value })
    const message = `node "${PATH}/${name}" holds "${value}", expected another number than in "${PATH}/${other}"`
    await expect(readRings(r.xs, PATH, twoRings)).rejects.toMatchObject({
      code: 'ERR_XEN_NEGOTIATION',
      message,
      details: { node: `${PATH}/${name}`, value },
    })
  })

  test('any text in any node: rings of distinct numbers, or an error that names a node', async () => {
    await using r = await ends()
    const text = fc.oneof(fc.string({ maxLength: 12 }), fc.nat(12).map(String))
    const some = fc.record(Object.fromEntries(Object.keys(two).map((name) => [name, text])), {
      requiredKeys: [],
    }) as fc.Arbitrary<Record<string, string>>
    await fc.assert(
      fc.asyncProperty(some, async (nodes) => {
        await write(r.xs, { ...two, ...nodes })
        const read = await readRings(r.xs, PATH, twoRings).catch((error: unknown) => error)
        if (Array.isArray(read)) {
          const grefs = read.flatMap((ring: PublishedRing) => ring.grefs)
          expect(new Set(grefs).size).toBe(4)
          expect(new Set(read.map((ring: PublishedRing) => ring.port)).size).toBe(2)
        } else {
          expect(read).toMatchObject({ code: 'ERR_XEN_NEGOTIATION' })
        }
      }),
    )
  })

  test("an order that no xenbus maps is the caller's fault, and nothing is shared for it", async () => {
    await using r = await ends()
    for (const order of [-1, 5, 31]) {
      await expect(readRings(r.xs, PATH, [{ order }])).rejects.toBeInstanceOf(RangeError)
      expect(() => r.open({ order })).toThrow(RangeError)
    }
  })
})

describe("an end that can't be opened leaves nothing open", () => {
  const uses = (machine: { assertQuiescent(): void }): string => {
    try {
      machine.assertQuiescent()
      return ''
    } catch (error) {
      return String(error)
    }
  }

  test("a frontend's, whose pages can't be formatted, or whose port can't be had", async () => {
    await using r = await ends()
    const before = uses(r.machine)
    const init = (): never => {
      throw new Error('no such ring')
    }
    expect(() => openRing(r.guest, { domid: 0, init })).toThrow('no such ring')
    expect(uses(r.machine)).toBe(before)
    const opened: { close(): void }[] = []
    const all = (): void => {
      for (;;) opened.push(r.open())
    }
    expect(all).toThrow(expect.objectContaining({ code: 'ERR_XEN_EVTCHN' }))
    for (const ring of opened) ring.close()
    expect(uses(r.machine)).toBe(before)
  })

  test.each([
    ['a page that was not granted', { grefs: [77] }, 'ERR_XEN_GRANT'],
    ['a port that is not open', { port: 9 }, 'ERR_XEN_EVTCHN'],
  ])("a backend's, for %s", async (_, wrong, code) => {
    await using r = await ends()
    const front = r.open()
    await write(r.xs, front.nodes)
    const before = uses(r.machine)
    const [published] = await readRings(r.xs, PATH, [{}])
    await expect(r.attach({ ...published, ...wrong })).rejects.toMatchObject({ code })
    expect(uses(r.machine)).toBe(before)
    front.close()
  })

  test("a backend's, for a ring whose indices are impossible", async () => {
    await using r = await ends()
    const front = r.open()
    new Uint32Array(front.bytes.buffer, front.bytes.byteOffset, 4)[0] = 1_000
    await write(r.xs, front.nodes)
    const before = uses(r.machine)
    const [published] = await readRings(r.xs, PATH, [{}])
    await expect(r.attach(published)).rejects.toMatchObject({ code: 'ERR_XEN_RING_PROTOCOL' })
    expect(uses(r.machine)).toBe(before)
    front.close()
  })
})

describe('whether a frontend still publishes its rings', () => {
  const read = (xs: XenstoreClient): Promise<readonly PublishedRing[]> => readRings(xs, PATH, [{}])

  test('says no for other pages or another port alone', async () => {
    await using r = await ends()
    const nodes = { 'ring-ref': '8', 'event-channel': '3' }
    await write(r.xs, nodes)
    const rings = await read(r.xs)
    expect(await isStillPublished(rings, read(r.xs))).toBe(true)
    await write(r.xs, { ...nodes, 'ring-ref': '9' })
    expect(await isStillPublished(rings, read(r.xs))).toBe(false)
    await write(r.xs, { ...nodes, 'event-channel': '4' })
    expect(await isStillPublished(rings, read(r.xs))).toBe(false)
    for (const gone of [{ ...nodes, 'ring-ref': 'x' }, {}]) {
      await write(r.xs, gone)
      expect(await isStillPublished(rings, read(r.xs))).toBe(true)
    }
  })

  test('a directory that is hidden by its owner says nothing against them', async () => {
    await using r = await ends()
    const other: SimDomain = r.machine.createDomain()
    const xs = await openXenstore(other.xenstore)
    await r.xs.mkdir(PATH)
    expect(await isStillPublished([{ grefs: [8], port: 3 }], read(xs))).toBe(true)
    xs.close()
    await expect(isStillPublished([], read(xs))).rejects.toMatchObject({
      code: 'ERR_XEN_XENSTORE_CLOSED',
    })
  })
})
