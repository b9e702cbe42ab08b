/** A guest's disk and network card share one turn on the event loop. */
import { TURN } from '@xenkit/backend'
import { Frames, type Link } from '@xenkit/frames'
import { createMachine, type SimDomain } from '@xenkit/sim'
import { memoryStore } from '@xenkit/stores'
import { plugVbd, serveVbd } from '@xenkit/vbd'
import { openVif, plugVif, serveVif, type Vif } from '@xenkit/vif'
import { openXenstore } from '@xenkit/xenstore-client'
import { expect, test } from 'vitest'
import { Crowd } from '../../backend/test/support/crowd.ts'
import { Flooder } from '../../vbd/test/support/flood.ts'

/** Work of a page read from the disk, and of a small packet: 1, plus 1 for its page. */
const WORK = 2
const PINGS = 50

test('a guest floods its disk and its card: another card waits for two of its turns at most', async () => {
  const crowd = new Crowd()
  const machine = createMachine()
  const dom0 = machine.createDomain()
  const hv = crowd.through(dom0)
  const [quiet, loud] = [machine.createDomain(), machine.createDomain()]
  const abort = new AbortController()
  const { signal } = abort
  let packets = 0
  let pinged = (): void => {}
  const link: Link = {
    plug: ({ domid }) => ({
      send(frames) {
        if (domid === quiet.domid) pinged()
        else packets += frames.count
      },
      close() {},
    }),
  }
  const serving = [
    serveVbd(hv, { store: memoryStore(2048), signal }),
    serveVif(hv, { link, signal }),
  ]
  const xs = await openXenstore(dom0.xenstore)
  const backendDomid = dom0.domid
  const open = async (guest: SimDomain): Promise<Vif> => {
    await plugVif(xs, { frontendDomid: guest.domid, backendDomid, devid: 0 })
    return openVif(guest, { devid: 0, staticGrants: false })
  }
  await plugVbd(xs, { frontendDomid: loud.domid, backendDomid, vdev: 'xvda', readOnly: true })
  const disk = await Flooder.open(loud, { disks: ['xvda'], request: {}, work: WORK })
  const card = await open(loud)
  const ping = await open(quiet)

  const memory = new Uint8Array(60)
  const flood = new Frames(256)
  for (let i = 0; i < 256; i++) flood.add({ start: 0, length: 60 })
  flood.reset(memory)
  flood.count = 256
  const single = new Frames(1)
  single.reset(memory)
  single.add({ start: 0, length: 60 })

  const work = (): number => disk.done + packets * WORK
  const waits: number[] = []
  let asked: number | undefined
  let ended = (): void => {}
  const all = new Promise<void>((resolve) => (ended = resolve))
  pinged = () => {
    if (asked === undefined) return
    waits.push(work() - asked)
    asked = undefined
    if (waits.length === PINGS) ended()
  }
  const fill = (): void => {
    if (waits.length === PINGS) return disk.rest()
    disk.fill()
    card.send(flood)
    // Ask at every moment of a turn: 37 and 101 have no divisor in common.
    if (asked !== undefined || (waits.length * 37) % 101 > packets % 101) return
    asked = work()
    ping.send(single)
  }
  crowd.onAnswer(loud.domid, fill)
  fill()
  await all

  expect(hv.loop.guests.size).toBe(2)
  const read = disk.done
  await disk[Symbol.asyncDispose]()
  for (const vif of [card, ping]) await vif.close()
  abort.abort()
  await Promise.all(serving)
  xs.close()
  await machine[Symbol.asyncDispose]()
  // A batch that is being sent, and 7 answers, may come later than their work.
  expect(Math.max(...waits)).toBeLessThanOrEqual(2 * TURN + (64 + 7) * WORK)
  expect(Math.min(read, packets * WORK)).toBeGreaterThan(TURN)
})
