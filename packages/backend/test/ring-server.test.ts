/**
 * What a ring's server does with the errors of a device, and when it calls which of its functions.
 */
import {
  RingServer,
  type RingServerParts,
  type RingWork,
  RowTable,
  openGuestTurn,
} from '@xenkit/backend'
import { GrantTable } from '@xenkit/grant'
import { Owner } from '@xenkit/hypervisor'
import { BackRing, FrontRing } from '@xenkit/ring'
import { createMachine } from '@xenkit/sim'
import { type OpenedRing, attachRing, openRing } from '@xenkit/xenbus'
import { expect, test } from 'vitest'

const STEPS = ['take', 'start', 'submit', 'deliver', 'release', 'respond'] as const

/** A machine with a ring, and all that a server of it needs except its `RingWork`. */
interface Served extends AsyncDisposable {
  readonly front: OpenedRing<FrontRing>
  readonly rows: RowTable
  readonly parts: Omit<RingServerParts, 'work'>
  readonly failures: unknown[]
  /** Publishes requests. */
  send(count: number): void
}

async function served(): Promise<Served> {
  const machine = createMachine()
  const dom0 = machine.createDomain()
  const guest = machine.createDomain()
  const owner = new Owner()
  const front = owner.own(
    openRing(guest, {
      domid: dom0.domid,
      init: (bytes) => FrontRing.init({ bytes, slotSize: 4 }),
    }),
  )
  const grants = owner.own(new GrantTable(dom0.grants))
  const back = owner.own(
    await attachRing(dom0, {
      domid: guest.domid,
      grefs: [Number(front.nodes['ring-ref'])],
      port: Number(front.nodes['event-channel']),
      grants,
      attach: (bytes) => BackRing.attach({ bytes, slotSize: 4 }),
    }),
  )
  const rows = new RowTable(64)
  const failures: unknown[] = []
  const { ring, channel } = back
  return {
    front,
    rows,
    failures,
    parts: {
      ring,
      channel,
      rows,
      guestTurn: owner.own(openGuestTurn(dom0.loop, guest.domid)),
      loop: dom0.loop,
      failed: (error) => void failures.push(error),
    },
    send(count) {
      for (let i = 0; i < count; i++) front.ring.reserveRequest()
      front.ring.publish()
    },
    async [Symbol.asyncDispose]() {
      owner.close()
      await machine[Symbol.asyncDispose]()
    },
  }
}

test.each(STEPS)(
  'an error that `%s` throws stops the ring, and nothing is answered',
  async (step) => {
    await using s = await served()
    const { rows, front } = s
    const started: number[] = []
    const fault = new Error('a fault of the device')
    const work: RingWork = {
      take(count) {
        for (let i = 0; i < count; i++) rows.wait(rows.take())
      },
      start() {
        for (let row; (row = rows.next) !== undefined;) {
          rows.start(row)
          started.push(row)
        }
      },
      submit() {},
      deliver() {},
      release() {},
      respond: () => void s.parts.ring.reserveResponse(),
    }
    work[step] = () => {
      throw fault
    }
    const server = new RingServer({ ...s.parts, work })
    s.send(1)
    server.turn()
    for (const row of started) rows.complete(row)
    server.completed()
    await server.settle({ frontend: 'gone' })
    expect(s.failures).toContain(fault)
    expect(front.ring.drain(8)).toBe(0)
  },
)

/** Work that holds its rows until they are submitted, and notes the calls. */
function batching({ rows, parts }: Served): { readonly work: RingWork; readonly calls: string[] } {
  const calls: string[] = []
  const work: RingWork = {
    take(count) {
      calls.push(`take ${count}`)
      for (let i = 0; i < count; i++) rows.wait(rows.take())
    },
    start() {},
    submit() {
      const { waiting } = rows
      if (waiting > 0) calls.push(`submit ${waiting}`)
      for (let row; (row = rows.next) !== undefined;) {
        rows.start(row)
        rows.complete(row)
      }
    },
    ringEmpty: () => void calls.push('ringEmpty'),
    deliver() {},
    release() {},
    respond: () => void parts.ring.reserveResponse(),
  }
  return { work, calls }
}

test('rows that wait for `submit` are submitted once the ring is empty, and then answered', async () => {
  await using s = await served()
  const { work, calls } = batching(s)
  const server = new RingServer({ ...s.parts, work })
  s.send(40)
  server.turn()
  expect(calls).toEqual(['take 16', 'take 16', 'take 8', 'submit 40', 'ringEmpty'])
  expect(s.front.ring.drain(64)).toBe(40)
})

test('while a ring is polled, no row waits to be submitted', async () => {
  await using s = await served()
  const { work, calls } = batching(s)
  const server = new RingServer({ ...s.parts, work })
  const { ring } = s.parts
  const drain = ring.drain.bind(ring)
  let looks = 0
  let polls = 0
  let unsubmitted = 0
  ring.drain = (max) => {
    // The first look finds the request, the second one nothing; the poll's come after that.
    if (++looks > 2) polls++
    if (looks > 2 && s.rows.waiting > 0) unsubmitted++
    return drain(max)
  }
  // Polls pay once events come soon after one another.
  for (let i = 0; i < 100; i++) {
    looks = 0
    s.send(1)
    server.turn()
  }
  expect(calls.filter((call) => call === 'submit 1')).toHaveLength(100)
  expect(polls).toBeGreaterThan(0)
  expect(unsubmitted).toBe(0)
})

test('a server finishes once its frontend has closed, and starts what waits', async () => {
  await using s = await served()
  const { rows } = s
  const { work } = batching(s)
  // The row waits for something that comes too late.
  work.submit = () => {}
  work.start = () => {
    const row = rows.next
    if (!server.isFinishing || row === undefined) return
    rows.start(row)
    rows.complete(row)
  }
  const server = new RingServer({ ...s.parts, work })
  s.send(1)
  server.turn()
  expect([server.isFinishing, rows.waiting]).toEqual([false, 1])
  await server.settle({ frontend: 'closed' })
  expect([server.isFinishing, rows.waiting]).toEqual([true, 0])
  expect(s.front.ring.drain(8)).toBe(1)
})
