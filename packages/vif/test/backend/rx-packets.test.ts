/** The format of packets on the receive ring. */
import { ALL_OFFLOADS, Checksum, type Frames, Gso, type Offloads } from '@xenkit/frames'
import { expect, test, vi } from 'vitest'
import { NO_HASH, rxOffloads } from '../../src/backend/rx-packets.ts'
import type { FrontendFeatures } from '../../src/nodes.ts'
import { ALL_FEATURES, content, rxRig } from '../support/rx-rig.ts'

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
  const copyOut = vi.spyOn(r.copier, 'copyOut')
  const notify = vi.spyOn(r.channel, 'notify')
  r.front.post(256)
  const sent = Array.from({ length: 64 }, (_, i) => content(14 + 23 * i, i))
  r.server.send(r.batch(sent))
  expect(r.front.reap().map(({ bytes }) => bytes)).toEqual(sent)
  expect(copyOut).toHaveBeenCalledTimes(1)
  expect(notify).toHaveBeenCalledTimes(1)
  // The guest has asked for an event with the next packet, and then for no more.
  r.server.send(r.batch([content(60)]))
  r.server.send(r.batch([content(60)]))
  expect(notify).toHaveBeenCalledTimes(2)
  expect(r.counters.stats).toMatchObject({ framesReceived: 66, receiveDrops: 0 })
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

test.each<[string, Partial<FrontendFeatures>, (frames: Frames) => void]>([
  ['shorter than an Ethernet header', {}, (frames) => frames.length.fill(13)],
  ['beyond its memory', {}, (frames) => frames.start.fill(2 ** 20 - 59)],
  ['of several buffers, for a guest without scatter-gather', { sg: false }, long],
  ['of several buffers, the first of which is too short for headers', { xdpHeadroom: 3841 }, long],
  ['for which no room is left in a page', { xdpHeadroom: 0x7fff }, () => {}],
  ['of more than 18 buffers', { xdpHeadroom: 3840 }, longer],
  ['of a segment that the guest has not advertised', { gso4: false }, gso],
  ['of a segment without blank checksum', {}, (frames) => (gso(frames), frames.checksum.fill(0))],
  ['of a segment of parts of 0 bytes', {}, (frames) => (gso(frames), frames.gsoSize.fill(0))],
  ['of a segment of no known type', {}, (frames) => (gso(frames), frames.gso.fill(3))],
])('a frame %s is dropped, and the next one is delivered', async (_, features, spoil) => {
  await using r = await rxRig({ features })
  r.front.post(32)
  const bad = r.batch([content(60)])
  spoil(bad)
  r.server.send(bad)
  const sent = features.xdpHeadroom === 0x7fff ? [] : [content(60)]
  r.server.send(r.batch(sent))
  expect(r.front.reap().map(({ bytes }) => bytes)).toEqual(sent)
  expect(r.counters.stats).toMatchObject({ framesReceived: sent.length, receiveDrops: 1 })
})

function long(frames: Frames): void {
  frames.length.fill(4097)
}

/** 18 parts of 256 bytes, and an extra info. */
function longer(frames: Frames): void {
  frames.length.fill(17 * 256 + 1)
}

function gso(frames: Frames): void {
  frames.gso.fill(Gso.TCPV4)
  frames.gsoSize.fill(1448)
  frames.checksum.fill(Checksum.BLANK)
}

test.each<[Partial<FrontendFeatures>, Partial<Offloads>]>([
  [{}, ALL_OFFLOADS],
  [{ checksum4: false }, { ...ALL_OFFLOADS, checksum4: false, gso4: false }],
  [{ checksum6: false }, { ...ALL_OFFLOADS, checksum6: false, gso6: false }],
  [{ sg: false }, { ...ALL_OFFLOADS, gso4: false, gso6: false }],
  [{ gso6: false }, { ...ALL_OFFLOADS, gso6: false }],
  [{ xdpHeadroom: 256 }, { ...ALL_OFFLOADS, gso4: false, gso6: false }],
])('a guest with %o takes %o', (features, offloads) => {
  expect(rxOffloads({ ...ALL_FEATURES, ...features })).toEqual({ ...offloads, tagged: false })
})

test.each([
  ['one of them', [1], [60, -1, 60], 1],
  ['two parts of one packet', [1, 2], [4096, -1, -1, 4096, 100], 1],
])('a grant that cannot be copied to: %s', async (_, wrong, parts, errors) => {
  await using r = await rxRig()
  for (let i = 0; i < parts.length; i++) {
    r.front.wrongGref = wrong.includes(i) ? 0xdead : undefined
    r.front.post(1)
  }
  const sent = parts[0] === 60 ? [60, 60, 60] : [4 * 4096 + 100]
  r.server.send(r.batch(sent.map((length) => content(length))))
  const got = r.front.reap()
  expect(got.flatMap((packet) => packet.parts)).toEqual(parts)
  expect(got.map(({ error }) => error)).toEqual(sent.length === 3 ? [0, -1, 0] : [-1])
  const delivered = sent.length - errors
  expect(r.counters.stats).toMatchObject({
    framesReceived: delivered,
    bytesReceived: 60 * delivered,
    receiveErrors: errors,
  })
  expect(r.calls).toEqual([])
})

test('buffers that stay mapped need no grant copy', async () => {
  const mapped = new Map<number, number>()
  await using r = await rxRig({
    features: { xdpHeadroom: 2 },
    staticGrefs: { lookup: (gref, write) => (write ? mapped.get(gref) : undefined) },
  })
  // Pages of the guest as domain 0 would map them: in a simulation all memory is one buffer.
  for (const page of [0, 1, 4]) {
    mapped.set(r.front.data.grefs[page] ?? 0, r.front.data.bytes.byteOffset + 4096 * page)
  }
  const add = vi.spyOn(r.copier, 'add')
  r.front.post(8)
  const sent = [content(60, 1), content(9000, 2)]
  r.server.send(r.batch(sent))
  expect(r.front.reap().map(({ bytes }) => bytes)).toEqual(sent)
  // Pages 1 and 3 hold extra infos; of pages 0, 2, 4 and 5 two aren't mapped.
  expect(add).toHaveBeenCalledTimes(2)
})
