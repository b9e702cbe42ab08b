/** A domain that reaches xenstored through its own ring: a page and an event channel. */
import {
  GNTTAB_RESERVED_XENSTORE,
  XENSTORE_CONNECTED,
  XENSTORE_ERROR,
  XENSTORE_RECONNECT,
  XENSTORE_SERVER_FEATURE,
  xenstoreDomainInterface,
  XS,
  xsdSockmsg,
  XsPacker,
  XsParser,
} from '@xenkit/wire'
import { expect, test } from 'vitest'
import { createMachine, type MachineOptions, type SimDomain } from '../src/index.ts'
import { settled } from './support/machine.ts'
import { startThread } from './support/threads/start-thread.ts'

/** Creates a machine with domain 0 and a guest that has a xenstore ring. */
function withRing(o: MachineOptions = {}) {
  const machine = createMachine(o)
  const dom0 = machine.createDomain()
  const guest = machine.createDomain({ xenstore: 'ring' })
  return { machine, dom0, guest, [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose]() }
}

/** A connection that records replies. */
async function connect(domain: SimDomain) {
  const replies: string[] = []
  const reasons: string[] = []
  let heard = (): void => {}
  const parser = new XsParser((type, _reqId, _txId, payload) =>
    replies.push(`${type} ${new TextDecoder().decode(payload)}`),
  )
  const stream = await domain.xenstore.connect({
    data: (bytes) => {
      parser.push(bytes)
      heard()
    },
    closed: (reason) => {
      reasons.push(reason.message)
      heard()
    },
  })
  const packer = new XsPacker()
  return {
    stream,
    replies,
    reasons,
    send: (type: number, payload: string) => {
      packer.append(type, 1, 0, payload.replaceAll('|', '\0'))
      stream.write(packer.take())
    },
    /** Resolves when the next reply arrives or the connection ends. */
    heard: () => new Promise<void>((resolve) => (heard = resolve)),
  }
}

/** The reason depends on which notices the destruction first: the domain or its ring. */
const DESTROYED: string = expect.stringMatching(
  /^(the domain was closed or destroyed|domain \d+ was destroyed)$/,
)

/** Maps the guest's xenstore page in domain 0, as xenstored does. */
const mapPage = (dom0: SimDomain) =>
  dom0.grants.map([{ domid: 1, gref: GNTTAB_RESERVED_XENSTORE }], { writable: true })
const { at } = xenstoreDomainInterface
const wordsOf = ({ bytes }: { bytes: Uint8Array }) =>
  new Int32Array(bytes.buffer, bytes.byteOffset, 1024)

test('is served through its ring, and leaves only its own resources open', async () => {
  await using m = withRing()
  m.machine.assertQuiescent()
  const xs = await connect(m.guest)
  expect(() => m.machine.assertQuiescent()).not.toThrow() // the guest has sent no request yet
  xs.send(XS.READ, 'name|')
  await xs.heard()
  expect(xs.replies).toEqual([`${XS.READ} sim-1`])
  xs.send(XS.WATCH, 'data|token|')
  while (xs.replies.length < 3) await xs.heard()
  expect(() => m.machine.assertQuiescent()).toThrow(
    /is not quiescent:\n {2}xenstore connection of domain 1\n {2}xenstore connection of domain 1: watch "\/local\/domain\/1\/data" with token "token"$/,
  )
  xs.stream.close()
  m.machine.assertQuiescent()
})

test("has a page like a guest's, granted by the reserved reference", async () => {
  await using m = withRing()
  using page = mapPage(m.dom0)
  const { req, rsp, ...words } = xenstoreDomainInterface.decode(page.bytes)
  const { RECONNECTION, ERROR, WATCHDEPTH, DOMID_ANY } = XENSTORE_SERVER_FEATURE
  expect(words).toEqual({
    req_cons: 0,
    req_prod: 0,
    rsp_cons: 0,
    rsp_prod: 0,
    server_features: RECONNECTION | ERROR | WATCHDEPTH | DOMID_ANY,
    connection: XENSTORE_CONNECTED,
    error: XENSTORE_ERROR.NONE,
    evtchn_port: 0,
  })
  expect([...req, ...rsp].every((byte) => byte === 0)).toBe(true)
  const xs = await connect(m.guest)
  xs.send(XS.READ, 'name|')
  await xs.heard()
  expect(Atomics.load(wordsOf(page), at.req_prod / 4)).toBe(16 + 5)
  xs.stream.close()
})

test('has one connection at a time, one after the other', async () => {
  await using m = withRing()
  const first = await connect(m.guest)
  await expect(connect(m.guest)).rejects.toThrow(
    'the xenstore ring of domain 1 carries one connection at a time',
  )
  first.send(XS.WATCH, 'data|token|')
  await first.heard()
  first.stream.close()
  const second = await connect(m.guest)
  second.send(XS.UNWATCH, 'data|token|')
  await second.heard()
  expect(second.replies).toEqual([`${XS.ERROR} ENOENT\0`])
  second.stream.close()
})

test('may be domain 0', async () => {
  await using machine = createMachine()
  const dom0 = machine.createDomain({ xenstore: 'ring' })
  const xs = await connect(dom0)
  xs.send(XS.IS_DOMAIN_INTRODUCED, '0|')
  await xs.heard()
  expect(xs.replies).toEqual([`${XS.IS_DOMAIN_INTRODUCED} T\0`])
  xs.stream.close()
})

test('closing the domain in a thread ends its connection, at both ends', async () => {
  await using m = withRing()
  const xs = await connect(m.guest)
  xs.send(XS.WATCH, 'data|token|')
  await xs.heard()
  await settled() // xenstored has read all requests, so only an event can tell it of the end
  await m.guest.close()
  expect(xs.reasons).toEqual(['the domain was closed or destroyed'])
  await expect.poll(() => m.machine.xenstored.openResources()).toEqual([])
})

test('leaves nothing open when destroyed, whatever it is doing', async () => {
  await using m = withRing({ pages: 8, ports: 4 })
  for (let life = 0; life < 50; life++) {
    const domain = m.machine.createDomain({ xenstore: 'ring' })
    const xs = await connect(domain)
    xs.send(XS.READ, 'name|')
    if (life % 2 === 0) await xs.heard()
    m.machine.destroyDomain(domain.domid)
    m.machine.assertQuiescent()
    if (xs.reasons.length === 0) await xs.heard()
    expect(xs.reasons).toEqual([DESTROYED])
  }
})

test('has no xenstored without domain 0, which is no error', async () => {
  await using m = withRing()
  const xs = await connect(m.guest)
  xs.send(XS.READ, 'name|')
  await xs.heard()
  m.machine.destroyDomain(0)
  xs.send(XS.READ, 'name|')
  await settled()
  expect(xs.replies.length).toBe(1)
  m.machine.assertQuiescent()
  expect(() => m.machine.createDomain({ xenstore: 'ring' })).toThrow('domain 0 was destroyed')
  xs.stream.close()
})

test('is not created without a free page', async () => {
  await using machine = createMachine({ pages: 2 })
  const dom0 = machine.createDomain()
  const page = dom0.arena.allocate(1)
  for (let i = 0; i < 65; i++) {
    expect(() => machine.createDomain({ xenstore: 'ring' })).toThrow('no run of 1 free pages')
  } // it takes no domain's slot
  page.bytes.fill(0xff)
  page.close()
  machine.assertQuiescent()
  const { domid } = machine.createDomain({ xenstore: 'ring' })
  expect(page.bytes.subarray(0, at.server_features).every((byte) => byte === 0)).toBe(true)
  using mapping = dom0.grants.map([{ domid, gref: GNTTAB_RESERVED_XENSTORE }], { writable: true })
  expect(mapping.byteOffset).toBe(page.byteOffset)
})

test('is named by the report if its page is still mapped after its end', async () => {
  await using m = withRing()
  const page = mapPage(m.dom0)
  m.machine.assertQuiescent()
  m.machine.destroyDomain(1)
  expect(() => m.machine.assertQuiescent()).toThrow(
    /is not quiescent:\n {2}domain 0 maps gref 1 of domain 1 writable$/,
  )
  page.close()
})

test('is not created without a free port in domain 0', async () => {
  await using machine = createMachine({ ports: 2 })
  const dom0 = machine.createDomain()
  const port = dom0.evtchn.bindUnbound({ domid: 1 }, () => {})
  expect(() => machine.createDomain({ xenstore: 'ring' })).toThrow(
    'domain 0 has all of its 1 event-channel ports in use',
  )
  port.close()
  machine.assertQuiescent()
  machine.createDomain({ xenstore: 'ring' })
})

test('is told when xenstored releases it', async () => {
  await using m = withRing()
  const xs = await connect(m.guest)
  xs.send(XS.READ, 'name|')
  await xs.heard()
  m.machine.xenstored.releaseDomain(1)
  await xs.heard()
  expect(xs.reasons).toEqual(['xenstored closed the ring: COMM'])
  const later = await connect(m.guest)
  later.send(XS.READ, 'name|')
  await later.heard()
  expect(later.reasons).toEqual(['xenstored closed the ring: COMM'])
})

test.each([
  ['an index beyond the ring', 'RINGIDX', at.req_prod / 4, 4711],
  ['a message that is too long', 'PROTO', (24 + xsdSockmsg.at.len) / 4, 4097],
])(
  'that sends %s loses its connection alone, and may have another: %s',
  async (_what, name, word, value) => {
    await using m = withRing()
    const other = m.machine.createDomain({ xenstore: 'ring' })
    using page = mapPage(m.dom0)
    const xs = await connect(m.guest)
    xs.send(XS.READ, 'control|')
    await xs.heard() // the reset is complete: the next message starts at 24
    xs.send(XS.READ, 'name|')
    Atomics.store(wordsOf(page), word, value)
    await xs.heard()
    expect(xs.reasons).toEqual([`xenstored closed the ring: ${name}`])
    for (const [domain, answer] of [
      [m.guest, 'sim-1'],
      [other, 'sim-2'],
    ] as const) {
      const again = await connect(domain)
      again.send(XS.READ, 'name|')
      await again.heard()
      expect(again.replies).toEqual([`${XS.READ} ${answer}`])
      again.stream.close()
    }
  },
)

test('leaves no trace to the next connection when its thread is terminated', async () => {
  await using m = withRing()
  for (let life = 0; life < 3; life++) {
    await using thread = startThread('xenstore.ts', m.guest)
    expect(await thread.next()).toBe('sim-1')
    expect(() => m.machine.assertQuiescent()).toThrow(/xenstore connection of domain 1$/)
    await thread.terminate()
  }
  const xs = await connect(m.guest)
  xs.send(XS.READ, 'name|')
  await xs.heard()
  expect(xs.replies).toEqual([`${XS.READ} sim-1`])
  xs.stream.close()
})

test('ends its connection and its thread when destroyed', async () => {
  await using m = withRing()
  await using thread = startThread('xenstore.ts', m.guest)
  expect(await thread.next()).toBe('sim-1')
  const ended = thread.next()
  m.machine.destroyDomain(1)
  expect(await ended).toEqual(DESTROYED)
  await thread.ended()
})

test('can reset its ring by hand', async () => {
  await using m = withRing()
  using page = mapPage(m.dom0)
  const xs = await connect(m.guest)
  xs.send(XS.READ, 'name|')
  await xs.heard()
  Atomics.store(wordsOf(page), at.connection / 4, XENSTORE_RECONNECT)
  xs.send(XS.READ, 'name|') // this event makes xenstored look at the page
  await expect.poll(() => Atomics.load(wordsOf(page), at.connection / 4)).toBe(XENSTORE_CONNECTED)
  m.machine.assertQuiescent()
  xs.stream.close()
})

/** Opens a connection of domain 0, for requests that only a toolstack may make. */
async function toolstack({ dom0 }: { readonly dom0: SimDomain }) {
  const xs = await connect(dom0)
  return {
    close: () => xs.stream.close(),
    async ask(type: number, payload: string): Promise<string | undefined> {
      xs.send(type, payload)
      await xs.heard()
      return xs.replies.at(-1)
    },
  }
}

test('has the features of GET_FEATURE in its page, or those of SET_FEATURE before INTRODUCE', async () => {
  await using m = withRing()
  using page = mapPage(m.dom0)
  const tool = await toolstack(m)
  const inPage = () => Atomics.load(wordsOf(page), at.server_features / 4)
  expect(await tool.ask(XS.GET_FEATURE, '1|')).toBe(`${XS.GET_FEATURE} ${inPage()}\0`)
  await tool.ask(XS.RELEASE, '1|')
  await tool.ask(XS.SET_FEATURE, `1|${XENSTORE_SERVER_FEATURE.ERROR}|`)
  await tool.ask(XS.INTRODUCE, '1|0|1|')
  expect(inPage()).toBe(XENSTORE_SERVER_FEATURE.ERROR)
  expect(await tool.ask(XS.GET_FEATURE, '1|')).toBe(`${XS.GET_FEATURE} ${inPage()}\0`)
  tool.close()
})

test('starts at index 0 without watches when introduced again', async () => {
  await using m = withRing()
  using page = mapPage(m.dom0)
  const tool = await toolstack(m)
  const xs = await connect(m.guest)
  xs.send(XS.WATCH, 'data|token|')
  while (xs.replies.length < 2) await xs.heard()
  expect(await tool.ask(XS.INTRODUCE, '1|0|1|')).toBe(`${XS.INTRODUCE} OK\0`)
  const indices = { req_cons: 0, req_prod: 0, rsp_cons: 0, rsp_prod: 0 }
  expect(xenstoreDomainInterface.decode(page.bytes)).toMatchObject(indices)
  expect(m.machine.xenstored.openResources()).toEqual(['xenstore connection of domain 0'])
  xs.stream.close()
  const again = await connect(m.guest)
  again.send(XS.READ, 'name|')
  await again.heard()
  expect(again.replies).toEqual([`${XS.READ} sim-1`])
  again.stream.close()
  tool.close()
})
