/** A guest with disks and another device has one turn on the event loop, as one with a disk. */
import { TURN } from '@xenkit/backend'
import type { Hypervisor } from '@xenkit/hypervisor'
import { memoryStore } from '@xenkit/stores'
import { expect, test } from 'vitest'
import { Crowd } from '../../../backend/test/support/crowd.ts'
import { ToyFront, serveToys } from '../../../backend/test/support/message-rig.ts'
import { Flooder } from '../support/flood.ts'
import { RawFrontend } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'

/** Work of a page read from the disk, and of a message of the other device. */
const READ = 2
const MESSAGE = 4

const DISKS = ['xvda', 'xvdb', 'xvdc']

test('a guest floods three disks and another device: others wait for one turn of it, at most for two', async () => {
  const crowd = new Crowd()
  const served: { hv?: Hypervisor } = {}
  await using r = await rig({
    store: () => memoryStore(2048),
    through: (dom0) => (served.hv = crowd.through(dom0)),
  })
  const abort = new AbortController()
  let messages = 0
  const serving = serveToys(served.hv ?? r.dom0, {
    signal: abort.signal,
    answer: ({ id, kind }) => {
      messages++
      return { id, kind, status: 0 }
    },
  })

  await r.plug()
  const quiet = await RawFrontend.open(r.guest)
  await quiet.device.connected()
  const guest = r.machine.createDomain()
  for (const vdev of DISKS) await r.plug({ guest, vdev })
  const disk = await Flooder.open(guest, { disks: DISKS, request: {}, work: READ })
  const toy = await ToyFront.open(r.xs, guest)

  const work = (): number => disk.done + messages * MESSAGE
  const waits: number[] = []
  let asked: number | undefined
  let pause = 0
  let ended = false
  const allAnswered = new Promise<void>((resolve) => {
    crowd.onAnswer(r.guest.domid, () => {
      quiet.ring.drain(1)
      quiet.ring.finalCheck()
      if (asked === undefined) return
      waits.push(work() - asked)
      asked = undefined
      // Ask at every moment of a turn: 37 and 101 have no divisor in common.
      pause = (waits.length * 37) % 101
      ended = waits.length === 50
      if (ended) resolve()
    })
  })
  const fill = (): void => {
    toy.take()
    if (ended) return disk.rest()
    disk.fill()
    toy.put(toy.opened.ring.free)
    toy.send()
    if (asked !== undefined || pause-- > 0) return
    asked = work()
    quiet.put()
    quiet.send()
  }
  crowd.onAnswer(guest.domid, fill)
  fill()
  await allAnswered

  const [read, answered] = [disk.done, messages * MESSAGE]
  await toy.close()
  for (const front of [quiet, disk]) await front[Symbol.asyncDispose]()
  abort.abort()
  await serving
  // Of each device, 7 answers may come one batch later than their work.
  const late = 7 * (DISKS.length * READ + MESSAGE)
  const mean = waits.reduce((sum, wait) => sum + wait, 0) / waits.length
  expect(Math.max(...waits)).toBeLessThanOrEqual(2 * TURN + late)
  // They ask at any moment of a turn, so half of one is left on average.
  expect(mean).toBeLessThanOrEqual(0.75 * TURN)
  expect(Math.min(read, answered)).toBeGreaterThan(TURN)
})
