import { createMachine } from '@xenkit/sim'
import { VIRQ } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { EventChannel } from '../src/index.ts'

test('two domains take turns', async () => {
  await using machine = createMachine()
  const back = machine.createDomain()
  const front = machine.createDomain()
  using asking = EventChannel.bindUnbound(front.evtchn, { domid: back.domid })
  using answering = EventChannel.bindInterdomain(back.evtchn, {
    domid: front.domid,
    port: asking.port,
  })
  const turn = { asked: 0, answered: 0 }
  answering.handle(
    () => {
      if (turn.answered === turn.asked) return // spurious event: no new question
      turn.answered = turn.asked
      answering.notify()
    },
    (error) => expect.unreachable(String(error)),
  )
  for (turn.asked = 1; turn.asked <= 50; turn.asked++) {
    asking.notify()
    do expect(await asking.wait()).toBe(true)
    while (turn.answered !== turn.asked)
  }
  expect(turn.answered).toBe(50)
})

test('an owner that is flooded with events also receives the last one', async () => {
  await using machine = createMachine()
  const back = machine.createDomain()
  const front = machine.createDomain()
  using storm = EventChannel.bindUnbound(front.evtchn, { domid: back.domid })
  using channel = EventChannel.bindInterdomain(back.evtchn, {
    domid: front.domid,
    port: storm.port,
  })
  let published = 0
  const storming = (async () => {
    while (published < 500) {
      published++
      storm.notify()
      if (published % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
  })()
  let turns = 0
  for await (const _ of channel) {
    turns++
    if (published === 500) break
  }
  await storming
  expect(turns).toBeLessThan(100)
})

test('an aborted iteration leaves nothing open', async () => {
  await using machine = createMachine()
  const back = machine.createDomain()
  const front = machine.createDomain()
  using _ours = EventChannel.bindUnbound(front.evtchn, { domid: back.domid })
  using channel = EventChannel.bindInterdomain(back.evtchn, {
    domid: front.domid,
    port: _ours.port,
  })
  const iteration = (async () => {
    for await (const _ of channel.events({ signal: AbortSignal.timeout(20) }));
  })()
  await expect(iteration).rejects.toThrow(/aborted due to timeout/)
})

test('a virtual interrupt wakes whoever waits for it', async () => {
  await using machine = createMachine()
  const dom0 = machine.createDomain()
  using channel = EventChannel.bindVirq(dom0.evtchn, { virq: VIRQ.DOM_EXC })
  let gone = false
  const heard = (async () => {
    for await (const _ of channel) if (gone) return // not spurious: the peer is gone
  })()
  machine.destroyDomain(machine.createDomain().domid)
  gone = true
  await expect(heard).resolves.toBeUndefined()
})
