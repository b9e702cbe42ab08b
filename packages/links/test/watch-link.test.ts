/** `watchLink`: who sees frames, and for how long. */
import { expect, test } from 'vitest'
import type { Card } from '@xenkit/frames'
import { type FrameDirection, openCable, watchLink } from '../src/index.ts'
import { ethernet, macOf } from './support/frames.ts'
import { TestCard } from './support/test-card.ts'

const frame = (number: number): number[] => ethernet({ from: macOf(number) })

test('watchers see the frames of both directions, from one moment to another', async () => {
  const [near, far] = openCable()
  const watched = watchLink(near)
  const card = await new TestCard().plugInto(watched)
  const peer = await new TestCard().plugInto(far)
  const seen: [string, FrameDirection, number[]][] = []
  const watch = (name: string): Disposable =>
    watched.watch((frames, direction) => seen.push([name, direction, [...frames.bytes(0)]]))
  const exchange = (number: number): void => {
    card.transmit(frame(number))
    peer.transmit(frame(number + 1))
    expect(peer.take()).toEqual([frame(number)])
    expect(card.take()).toEqual([frame(number + 1)])
  }
  exchange(1)
  const first = watch('first')
  exchange(3)
  const second = watch('second')
  first[Symbol.dispose]()
  exchange(5)
  second[Symbol.dispose]()
  exchange(7)
  expect(seen).toEqual([
    ['first', 'from-card', frame(3)],
    ['first', 'to-card', frame(4)],
    ['second', 'from-card', frame(5)],
    ['second', 'to-card', frame(6)],
  ])
})

test('a watcher sees a question before its answer, and may end while it is called', async () => {
  const [near, far] = openCable()
  const watched = watchLink(near)
  const card = await new TestCard().plugInto(watched)
  const peer = await new TestCard({ onFrames: () => peer.transmit(frame(2)) }).plugInto(far)
  const seen: string[] = []
  const watching = watched.watch((_, direction) => {
    seen.push(direction)
    if (direction === 'to-card') watching[Symbol.dispose]()
  })
  watched.watch((_, direction) => seen.push(`second ${direction}`))
  card.transmit(frame(1))
  card.transmit(frame(1))
  expect(seen).toEqual([
    'from-card',
    'second from-card',
    'to-card',
    'second to-card',
    'second from-card',
    'second to-card',
  ])
})

test('the end of a card is told once', async () => {
  const unplugged: Card[] = []
  const [near] = openCable()
  const card = new TestCard({ name: 'vif7.0' })
  const link = await watchLink(near, (gone) => unplugged.push(gone)).plug(card)
  expect(unplugged).toEqual([])
  await link.close()
  expect(unplugged).toEqual([card])
})
