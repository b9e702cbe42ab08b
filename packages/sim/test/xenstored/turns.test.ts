/**
 * Many requests of one client at once: other clients and the event loop must still get their share.
 */
import { XS, XsPacker, XsParser } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { Xenstored } from '../../src/xenstored/index.ts'
import { RawXenstore, until } from '../support/raw-xenstore.ts'

const REQUESTS = 50_000

/** Connects a client that sends 50,000 requests at once, and counts the replies. */
function flood(xenstored: Xenstored): { answered: () => number } {
  let answered = 0
  const parser = new XsParser(() => {
    answered++
  })
  const connection = xenstored.connect(0, { data: (bytes) => parser.push(bytes), closed: () => {} })
  const packer = new XsPacker()
  for (let id = 0; id < REQUESTS; id++) packer.append(XS.READ, id, 0, '/tool/xenstored\0')
  connection.write(packer.take())
  return { answered: () => answered }
}

test('a flood does not starve other clients or the event loop', async () => {
  const xenstored = new Xenstored()
  const witness = new RawXenstore(xenstored, 0)
  const { answered } = flood(xenstored)
  let turns = 0
  let served = 0
  const asking = (async () => {
    for (; answered() < REQUESTS; served++) await witness.read('/tool')
  })()
  await until(() => {
    turns++
    return answered() === REQUESTS
  })
  await asking
  expect(turns).toBeGreaterThan(10)
  expect(served).toBeGreaterThan(10)
})

test('two floods progress concurrently', async () => {
  const xenstored = new Xenstored()
  const first = flood(xenstored)
  const second = flood(xenstored)
  await until(() => first.answered() > REQUESTS / 2)
  expect(second.answered()).toBeGreaterThan(REQUESTS / 10)
})

test('a client that sends a request within each reply gets only its turns', async () => {
  const xenstored = new Xenstored()
  const witness = new RawXenstore(xenstored, 0)
  const packer = new XsPacker()
  let asked = 0
  const ask = (): void => {
    packer.append(XS.READ, 0, 0, '/tool\0')
    eager.write(packer.take())
    asked++
  }
  const eager = xenstored.connect(0, {
    data() {
      if (asked < 5 * REQUESTS) ask()
    },
    closed: () => {},
  })
  ask()
  expect(await witness.read('/tool')).toBe('')
  expect(asked).toBeLessThan(REQUESTS)
  eager.close()
})

test('an error of one receiver does not affect others', async () => {
  const xenstored = new Xenstored()
  const thrown: unknown[] = []
  const onThrown = (error: unknown): void => void thrown.push(error)
  const listeners = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException')
  process.on('uncaughtException', onThrown)
  const packer = new XsPacker()
  packer.append(XS.READ, 0, 0, '/tool\0')
  xenstored
    .connect(0, {
      data() {
        throw new Error('mine')
      },
      closed: () => {},
    })
    .write(packer.take())
  const witness = new RawXenstore(xenstored, 0)
  expect(await witness.read('/tool')).toBe('')
  process.off('uncaughtException', onThrown)
  for (const listener of listeners) process.on('uncaughtException', listener)
  expect(thrown).toEqual([new Error('mine')])
})
