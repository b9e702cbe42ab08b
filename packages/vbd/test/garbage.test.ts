/** Any bytes in the ring's slots and in the pages that they name: one answer to each, and nothing at the store that it can't do. */
import { BLKIF_OP, blkif } from '@xenkit/wire'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { BlockStore } from '../src/index.ts'
import { RawFrontend } from './raw-frontend.ts'
import { rig } from './rig.ts'

const SECTORS = 1024

/** A store that holds every call against the contract of `BlockStore`. */
function strictStore(broken: (why: string) => void): BlockStore {
  const check = (sector: number, bytes: number): void => {
    if (!Number.isInteger(sector) || sector < 0 || bytes === 0 || bytes % 512 !== 0 || sector + bytes / 512 > SECTORS) broken(`${sector}+${bytes}`)
  }
  const sum = (pieces: readonly Uint8Array[]): number => pieces.reduce((all, { length }) => all + length, 0)
  return {
    sectors: SECTORS,
    read: (sector, into) => check(sector, sum(into)),
    write: (sector, from) => check(sector, sum(from)),
    discard: (sector, count) => check(sector, count * 512),
    flush() {},
  }
}

// Mostly operations that exist and small numbers, since nearly all random slots are refused at their first byte.
const byte = fc.oneof({ weight: 3, arbitrary: fc.nat(8) }, { weight: 1, arbitrary: fc.nat(255) })
const slot = fc.array(byte, { minLength: 112, maxLength: 112 })

test.each([['x86_64', 'copy'], ['x86_32', 'copy'], ['x86_64', 'persistent'], ['arm', 'map']] as const)('%s, %s', async (abi, dataPath) => {
  await fc.assert(
    fc.asyncProperty(fc.array(slot, { minLength: 1, maxLength: 32 }), fc.array(byte, { minLength: 64, maxLength: 64 }), fc.boolean(), async (slots, list, known) => {
      const broken: string[] = []
      await using r = await rig({ store: strictStore((why) => broken.push(why)), dataPath })
      await r.plug()
      await using front = await RawFrontend.open(r.guest, { abi, persistent: true })
      const { request, indirect, segment } = blkif[abi]
      for (const bytes of slots) {
        const at = front.ring.reserveRequest()
        front.ringShare.bytes.set(bytes.slice(0, blkif[abi].slotSize), at)
        if (!known) continue
        // References that can be had, so that there is more to refuse.
        const view = new DataView(front.ringShare.bytes.buffer, front.ringShare.bytes.byteOffset + at)
        const grefAt = bytes[0] === BLKIF_OP.INDIRECT ? indirect.at.indirect_grefs : request.at.seg
        view.setUint32(grefAt, (bytes[0] === BLKIF_OP.INDIRECT ? front.lists : front.data).grefs[0] ?? 0, true)
      }
      for (let i = 0; i < list.length; i += segment.size) {
        front.lists.bytes.set(list.slice(i, i + segment.size), i)
        new DataView(front.lists.bytes.buffer, front.lists.bytes.byteOffset + i).setUint32(segment.at.gref, front.data.grefs[0] ?? 0, true)
      }
      front.send()
      const answers = await front.responses(slots.length)
      const idOf = (bytes: readonly number[]): string => bytes.slice(request.at.id, request.at.id + 8).join()
      expect(answers.map(({ slot: answer }) => [...answer.subarray(0, 8)].join()).toSorted()).toEqual(slots.map(idOf).toSorted())
      expect(answers.every(({ status }) => status === 0 || status === -1 || status === -2)).toBe(true)
      expect(broken).toEqual([])
      expect(r.events.filter(({ kind }) => kind === 'failed')).toEqual([])
    }),
    { numRuns: 30 },
  )
})
