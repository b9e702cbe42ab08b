/** What a ring's server does with the errors of a device. */
import { RingServer, type RingWork, RowTable, openGuestTurn } from '@xenkit/backend'
import { GrantTable } from '@xenkit/grant'
import { BackRing, FrontRing } from '@xenkit/ring'
import { createMachine } from '@xenkit/sim'
import { attachRing, openRing } from '@xenkit/xenbus'
import { expect, test } from 'vitest'

const STEPS = ['take', 'start', 'submit', 'deliver', 'release', 'respond'] as const

test.each(STEPS)(
  'an error that `%s` throws stops the ring, and nothing is answered',
  async (step) => {
    await using machine = createMachine()
    const dom0 = machine.createDomain()
    const guest = machine.createDomain()
    using front = openRing(guest, {
      domid: dom0.domid,
      init: (bytes) => FrontRing.init({ bytes, slotSize: 4 }),
    })
    using grants = new GrantTable(dom0.grants)
    using back = await attachRing(dom0, {
      domid: guest.domid,
      grefs: [Number(front.nodes['ring-ref'])],
      port: Number(front.nodes['event-channel']),
      grants,
      attach: (bytes) => BackRing.attach({ bytes, slotSize: 4 }),
    })
    const rows = new RowTable(8)
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
      respond: () => void back.ring.reserveResponse(),
    }
    work[step] = () => {
      throw fault
    }
    const failures: unknown[] = []
    const guestTurn = openGuestTurn(dom0.loop, guest.domid)
    const server = new RingServer({
      ...back,
      rows,
      work,
      guestTurn,
      loop: dom0.loop,
      failed: (error) => void failures.push(error),
    })
    front.ring.reserveRequest()
    front.ring.publish()
    server.turn()
    for (const row of started) rows.complete(row)
    server.completed()
    await server.settle({ frontend: 'gone' })
    expect(failures).toContain(fault)
    expect(front.ring.drain(8)).toBe(0)
    guestTurn.close()
  },
)
