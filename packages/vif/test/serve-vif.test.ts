/** Two guests' cards, served and connected by a cable. */
import { type Frames, type Link, type PluggedLink } from '@xenkit/frames'
import { type SimDomain, type SimMachine, createMachine } from '@xenkit/sim'
import { openXenstore } from '@xenkit/xenstore-client'
import { expect, test } from 'vitest'
import { type OpenVifOptions, type Vif, openVif, plugVif, serveVif } from '../src/index.ts'
import { bytesOf } from './support/connected-vif.ts'

/** A link that connects all its cards: each gets what the others send. */
function openHub(): Link {
  const ends = new Set<{ send(frames: Frames): void }>()
  return {
    plug(card): PluggedLink {
      ends.add(card)
      return {
        get offloads() {
          return card.offloads ?? { checksum4: false, checksum6: false, gso4: false, gso6: false }
        },
        send(frames) {
          for (const end of ends) if (end !== card) end.send(frames)
        },
        close: () => void ends.delete(card),
      }
    },
  }
}

async function withCards(
  options: readonly Omit<OpenVifOptions, 'devid'>[],
  use: (vifs: readonly Vif[]) => Promise<void>,
): Promise<void> {
  const machine: SimMachine = createMachine()
  const dom0 = machine.createDomain()
  const guests: SimDomain[] = options.map(() => machine.createDomain())
  const end = new AbortController()
  const failures: unknown[] = []
  const serving = serveVif(dom0, {
    link: openHub(),
    signal: end.signal,
    onEvent: ({ error }) => void (error !== undefined && failures.push(error)),
  })
  const xs = await openXenstore(dom0.xenstore)
  for (const { domid } of guests) {
    await plugVif(xs, { frontendDomid: domid, backendDomid: dom0.domid, devid: 0 })
  }
  const vifs = await Promise.all(
    guests.map((guest, i) => openVif(guest, { devid: 0, ...options[i] })),
  )
  await use(vifs)
  for (const vif of vifs) await vif.close()
  end.abort()
  await serving
  xs.close()
  expect(failures).toEqual([])
  for (const domain of [...guests, dom0]) await domain.close()
  machine.assertQuiescent()
  await machine.close()
}

const frameOf = (length: number): Uint8Array => {
  const frame = bytesOf(length)
  frame.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5])
  return frame
}

test.each([
  ['one queue, one channel', { splitChannels: false, staticGrants: false }],
  ['split channels', { staticGrants: false }],
  ['two queues', { queues: 2, staticGrants: false }],
  ['static grants', {}],
] as const)('frames of any size reach the other guest: %s', async (_, o) => {
  await withCards([o, o], async ([a, b]) => {
    if (!a || !b) throw new Error('two cards')
    const sizes = [14, 60, 1514, 4096, 4097, 9000, 65_535]
    const arriving = b[Symbol.asyncIterator]()
    for (const size of sizes) {
      const frame = frameOf(size)
      await a.sendFrame(frame)
      expect((await arriving.next()).value).toEqual(frame)
    }
  })
})
