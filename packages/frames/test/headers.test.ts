import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Headers, NO_VLAN } from '../src/index.ts'
import { build, packets } from './support/packets.ts'

test('finds the headers of any packet', () => {
  fc.assert(
    fc.property(packets([6, 17], 100), fc.nat(20), (packet, start) => {
      const { bytes, l3, l4, headers } = build(packet)
      // Ethernet pads short frames.
      const memory = new Uint8Array(start + Math.max(60, bytes.length) + 7)
      memory.set(bytes, start)
      const parsed = new Headers()
      expect(parsed.parse(memory, start, Math.max(60, bytes.length))).toBe(true)
      expect({ ...parsed }).toEqual({
        ethertype: packet.version === 4 ? 0x0800 : 0x86dd,
        vlan: packet.tags[0]?.vlan ?? NO_VLAN,
        l3,
        l4,
        protocol: packet.protocol,
        length: headers,
        end: bytes.length,
        fragment: false,
        checksum: l4 + (packet.protocol === 6 ? 16 : 6),
        destination: l3 + (packet.version === 4 ? 16 : 24),
      })
    }),
  )
})

test('fails at a cut in any header, and reads nothing outside of the frame', () => {
  fc.assert(
    fc.property(packets([6, 17], 100), fc.nat(200), fc.nat(), (packet, place, noise) => {
      const { bytes, headers } = build(packet)
      const cut = place % headers
      const parsed = new Headers()
      const short = bytes.slice(0, cut)
      expect(parsed.parse(short, 0, cut)).toBe(false)
      const alone = { ...parsed }
      // The bytes after the frame change nothing.
      const rest = new Uint8Array(bytes.length - cut + 300).fill(noise)
      expect(parsed.parse(Uint8Array.of(...short, ...rest), 0, cut)).toBe(false)
      expect({ ...parsed }).toEqual(alone)
      expect(parsed.l4).toBe(0)
    }),
  )
})
