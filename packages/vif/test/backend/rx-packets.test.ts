/** The format of packets on the receive ring. */
import { Checksum, Gso } from '@xenkit/frames'
import { expect, test } from 'vitest'
import { NO_HASH } from '../../src/backend/rx-packets.ts'
import { content, rxRig } from '../support/rx-rig.ts'

test.each([
  ['complete', Checksum.COMPLETE, 0],
  ['verified', Checksum.VERIFIED, 1],
  ['blank, which goes with data_validated', Checksum.BLANK, 3],
])('a checksum that is %s', async (_, checksum, flags) => {
  await using r = await rxRig()
  r.front.post(1)
  const frames = r.batch([content(60)])
  frames.checksum[0] = checksum
  r.server.send(frames)
  expect(r.front.reap()).toEqual([{ bytes: content(60), error: 0, flags, parts: [60], extras: [] }])
})

test('a batch takes one grant-copy call, one publication and one event', async () => {
  await using r = await rxRig()
  r.front.post(256)
  const sent = Array.from({ length: 64 }, (_, i) => content(14 + 23 * i, i))
  r.server.send(r.batch(sent))
  expect(r.front.reap().map(({ bytes }) => bytes)).toEqual(sent)
  expect(r.copies).toEqual([64])
  expect(r.notified()).toBe(1)
  // The guest asked for no event since.
  expect(r.counters.stats).toMatchObject({ framesReceived: 64, receiveDrops: 0 })
})

test('a segment of 65,535 bytes with all extra infos takes 18 buffers', async () => {
  await using r = await rxRig()
  r.front.post(18)
  const frames = r.batch([content(65_535)])
  frames.checksum[0] = Checksum.BLANK
  frames.gso[0] = Gso.TCPV6
  frames.gsoSize[0] = 0x5a4
  r.server.send(frames, { type: Uint8Array.of(3), value: Uint32Array.of(0x89ab_cdef) })
  const [packet] = r.front.reap()
  expect(packet?.parts).toEqual([...Array.from({ length: 15 }, () => 4096), 4095])
  expect(packet?.extras).toEqual([
    [1, 0xa4, 0x05, 2, 0, 0, 0],
    [4, 3, 1, 0xef, 0xcd, 0xab, 0x89],
  ])
  expect(packet?.bytes).toEqual(content(65_535))
  expect(r.front.posted).toBe(0)
})

test('headroom is left free in each part, and is part of its size', async () => {
  await using r = await rxRig({ features: { xdpHeadroom: 256 } })
  r.front.post(4)
  r.server.send(r.batch([content(5000)]), {
    type: Uint8Array.of(NO_HASH),
    value: new Uint32Array(1),
  })
  expect(r.front.reap()).toEqual([
    {
      bytes: content(5000),
      error: 0,
      flags: 0,
      parts: [4096, 5000 - 3840 + 256],
      extras: [[5, 0, 1, 0, 0, 0, 0]],
    },
  ])
})
