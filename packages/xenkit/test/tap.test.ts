/** TAP devices of the host's kernel, which is the other end of a TCP connection. */
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import { loadNative } from '../../../native/index.js'
import { type FrameMemory, NO_OFFLOADS } from '@xenkit/frames'
import type { Pages } from '@xenkit/hypervisor'
import { createMachine, type LinkEvent, openTap, type TapOptions } from 'xenkit'
import { ip, whyNoTap } from '../../../native/test/tap.ts'
import { TestCard } from '../../links/test/support/test-card.ts'
import { TcpGuest, type TcpGuestOptions } from '../../links/test/support/tcp-guest.ts'
import { ethernet } from '../../links/test/support/frames.ts'

const HOST = '198.18.1.1'
const GUEST = '198.18.1.2'
const reason = whyNoTap()
const skipped = reason ? ` (skipped: ${reason})` : ''
const native = loadNative()

afterAll(() => until(() => native.counters().polls === 0 && native.counters().fds === 0))

/** Resolves once `condition` holds. If it never does, the test's timeout ends the wait. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2))
}

const exists = (name: string): boolean => ip('-o', 'link').includes(` ${name}: `)

/** A server on the host's address. */
async function listen(o: { readonly onSocket: (socket: Socket) => void }): Promise<number> {
  const server: Server = createServer((socket) => {
    onTestFinished(() => void socket.destroy())
    o.onSocket(socket)
  })
  server.listen(0, HOST)
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const address = server.address()
  return typeof address === 'object' ? (address?.port ?? 0) : 0
}

/** Opens a connection of a guest with the host. */
async function connect(
  onSocket: (socket: Socket) => void,
  o: Pick<TcpGuestOptions, 'offloads'> = {},
): Promise<TcpGuest> {
  const link = openTap({ name: 'xktest%d' })
  const before = new Set(ip('-o', 'link').match(/xktest\d+/g))
  const ports: number[] = []
  const guest = new TcpGuest({
    ip: GUEST,
    peer: HOST,
    get port() {
      return ports[0] ?? 0
    },
    ...o,
  })
  guest.link = await link.plug(guest)
  onTestFinished(() => void guest.link?.close())
  const name =
    ip('-o', 'link')
      .match(/xktest\d+/g)
      ?.find((each) => !before.has(each)) ?? ''
  ip('address', 'add', `${HOST}/24`, 'dev', name)
  ports.push(await listen({ onSocket }))
  guest.link.carrier?.(true)
  // The kernel activates an interface some time after its carrier has come.
  await until(() => /state (UP|UNKNOWN)/.test(ip('link', 'show', name)))
  guest.open()
  await until(() => guest.isOpen)
  return guest
}

/** Plugs a test's card into a TAP device. */
async function plug(o: TapOptions = {}, name = 'xktest-card') {
  const link = openTap(o)
  const card = new TestCard({ name })
  await card.plugInto(link)
  onTestFinished(() => void card.link.close())
  return { link, card }
}

describe.skipIf(reason !== undefined)(`openTap${skipped}`, () => {
  test('passes TCP segments of 60 KB whole, both ways', async () => {
    const got: Buffer[] = []
    const sent = Buffer.from(Array.from({ length: 600_000 }, (_, at) => at % 251))
    const guest = await connect((socket) => {
      socket.on('data', (data) => got.push(data))
      socket.write(sent)
    })
    const data = Uint8Array.from({ length: 60_000 }, (_, at) => at % 253)
    guest.write(data, 1448)
    await until(() => Buffer.concat(got).length === data.length)
    expect(Buffer.compare(Buffer.concat(got), data)).toBe(0)
    await until(() => Buffer.concat(guest.data).length === sent.length)
    expect(Buffer.compare(Buffer.concat(guest.data), sent)).toBe(0)
    // The kernel's congestion window begins at 10 segments and grows.
    expect(guest.longest).toBeGreaterThan(20_000)
  })

  test('the kernel completes frames for a card without offloads', async () => {
    const sent = Buffer.alloc(200_000, 7)
    const guest = await connect((socket) => socket.write(sent), { offloads: NO_OFFLOADS })
    await until(() => Buffer.concat(guest.data).length === sent.length)
    expect(guest.longest).toBe(1514)
  })

  test('names the interface after the card, and deletes it at close', async () => {
    const { card } = await plug({ mtu: 9000 })
    expect(ip('link', 'show', 'xktest-card')).toMatch(/UP,LOWER_UP> mtu 9000/)
    expect(card.carriers).toEqual([true])
    await card.link.close()
    expect(exists('xktest-card')).toBe(false)
  })

  test('the interface follows the carrier of the card', async () => {
    const { card } = await plug()
    const state = (): string => ip('link', 'show', 'xktest-card')
    expect(state()).toContain('LOWER_UP')
    card.link.carrier?.(false)
    expect(state()).toContain('NO-CARRIER')
    card.link.carrier?.(true)
    expect(state()).toContain('LOWER_UP')
  })

  test('a persistent interface stays, and is opened again', async () => {
    const { card } = await plug({ persistent: true })
    await card.link.close()
    expect(exists('xktest-card')).toBe(true)
    onTestFinished(() => void ip('link', 'delete', 'xktest-card'))
    const again = await plug()
    expect(again.card.carriers).toEqual([true])
  })

  test('a deleted interface is told and opened again, and frames are counted meanwhile', async () => {
    const events: LinkEvent[] = []
    const { link, card } = await plug({ onEvent: (event) => events.push(event) })
    card.transmit(ethernet({ payload: [1] }))
    expect(link.dropped).toBe(0)
    ip('link', 'delete', 'xktest-card')
    card.transmit(ethernet({ payload: [2] }))
    expect(link.dropped).toBe(1)
    await until(() => card.carriers.length === 2)
    card.transmit(ethernet({ payload: [3] }))
    expect(link.dropped).toBe(2)
    await until(() => card.carriers.length === 3)
    card.transmit(ethernet({ payload: [4] }))
    expect(link.dropped).toBe(2)
    expect(card.carriers).toEqual([true, false, true])
    expect(events).toMatchObject([
      { kind: 'lost', card: 'xktest-card', error: { message: 'tap "xktest-card" was deleted' } },
      { kind: 'reopened', card: 'xktest-card' },
    ])
    expect(card.failures).toEqual([])
  })

  test('an interface that is deleted just before the carrier changes is lost, not an exception', async () => {
    const { card } = await plug()
    ip('link', 'delete', 'xktest-card')
    card.link.carrier?.(false)
    card.link.pause?.(true)
    expect(card.carriers).toEqual([true, false])
    await until(() => card.carriers.length === 3)
  })

  test('while it is paused, frames wait in the kernel', async () => {
    const sent = Buffer.alloc(9000, 7)
    let client: Socket | undefined
    const guest = await connect((socket) => void (client = socket))
    await until(() => client !== undefined)
    guest.link?.pause?.(true)
    client?.write(sent)
    for (let i = 0; i < 3; i++) await new Promise(setImmediate)
    expect(guest.data).toEqual([])
    guest.link?.pause?.(false)
    await until(() => Buffer.concat(guest.data).length === sent.length)
  })

  test('an interface that is in use is refused, and says what to do', async () => {
    await plug()
    await expect(plug()).rejects.toMatchObject({
      code: 'ERR_XEN_LINK',
      message: expect.stringContaining('tap "xktest-card": another program has it open'),
      details: { name: 'xktest-card', errno: 'EBUSY' },
    })
    await expect(plug({ name: 'lo' })).rejects.toThrow(/isn't a TAP device/)
    await expect(plug({ name: 'xktest', mtu: 1 })).rejects.toThrow(/SIOCSIFMTU 1/)
    expect(exists('xktest')).toBe(false)
  })

  test('received frames lie in the memory of the first card while one is plugged in', async () => {
    await using machine = createMachine()
    const { arena } = machine.createDomain()
    const allocated: Pages[] = []
    const memories = new Set<Uint8Array>()
    const memory: FrameMemory = {
      allocate(pages) {
        const made = arena.allocate(pages)
        allocated.push(made)
        return made
      },
    }
    const link = openTap()
    const cards = ['xktest-a', 'xktest-b'].map(
      (name) => new TestCard({ name, memory, onFrames: ({ memory }) => memories.add(memory) }),
    )
    for (const card of cards) await card.plugInto(link)
    // The kernel itself sends frames: it looks for IPv6 routers.
    await until(() => cards.every(({ got }) => got.length > 0))
    expect([allocated.length, memories.size]).toEqual([1, 1])
    expect(allocated[0] && memories.has(allocated[0].bytes)).toBe(true)
    for (const card of cards) await card.link.close()
    machine.assertQuiescent()
  })

  test('several threads may each open a queue', async () => {
    const cards = [1, 2].map(() => plug({ multiQueue: true, name: 'xktest-queues' }))
    for (const { card } of await Promise.all(cards)) expect(card.carriers).toEqual([true])
  })
})
