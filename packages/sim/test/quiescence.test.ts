/** `assertQuiescent` names each kind of leaked resource, and reports nothing else. */
import { expect, test } from 'vitest'
import { settled, twoDomains } from './support/machine.ts'

type Two = ReturnType<typeof twoDomains>
const nothing = (): void => {}

async function leave(): Promise<void> {
  await using m = twoDomains()
  m.front.evtchn.bindUnbound({ domid: 0 }, nothing)
}

const leaks: [text: RegExp, leak: (m: Two) => { close(): void } | Promise<{ close(): void }>][] = [
  [
    /domain 1 grants gref \d+ to domain 0$/,
    (m) => m.front.grants.share({ domid: 0, pages: 1, writable: true }),
  ],
  [/domain 1 has 2 pages allocated$/, (m) => m.front.arena.allocate(2)],
  [
    /port \d+ of domain 1 is open: waits for domain 0$/,
    (m) => m.front.evtchn.bindUnbound({ domid: 0 }, nothing),
  ],
  [
    /xenstore connection of domain 1$/,
    (m) => m.front.xenstore.connect({ data: nothing, closed: nothing }),
  ],
]

test.each(leaks)('%s', async (text, leak) => {
  await using m = twoDomains({ seed: 4711 })
  const left = await leak(m)
  let report = ''
  try {
    m.machine.assertQuiescent()
  } catch (error) {
    report = String(error)
  }
  const [headline, ...lines] = report.split('\n')
  expect(headline).toBe('Error: the machine (seed 4711) is not quiescent:')
  expect(lines.length).toBe(1)
  expect(lines[0]).toMatch(text)
  left.close()
  m.machine.assertQuiescent()
})

test('a mapping that outlives its grantor is named', async () => {
  await using m = twoDomains()
  const share = m.front.grants.share({ domid: 0, pages: 1, writable: true })
  const mapping = m.back.grants.map([{ domid: 1, gref: share.grefs[0] ?? 0 }], { writable: false })
  m.machine.destroyDomain(1)
  expect(() => m.machine.assertQuiescent()).toThrow(/domain 0 maps gref \d+ of domain 1 read-only$/)
  mapping.close()
})

test('the end of the scope reports open resources', async () => {
  await expect(leave()).rejects.toThrow('is not quiescent')
})

test('closing a domain in a thread closes everything opened there, even mapped shares', async () => {
  await using m = twoDomains()
  const share = m.front.grants.share({ domid: 0, pages: 1, writable: true })
  m.front.arena.allocate(1)
  m.front.evtchn.bindUnbound({ domid: 0 }, nothing)
  const reasons: Error[] = []
  await m.front.xenstore.connect({ data: nothing, closed: (reason) => reasons.push(reason) })
  const mapping = m.back.grants.map([{ domid: 1, gref: share.grefs[0] ?? 0 }], { writable: false })
  await m.front.close()
  await m.front.close()
  expect(reasons.length).toBe(1)
  expect(() => m.front.arena.allocate(1)).toThrow('domain 1 was closed in this thread')
  mapping.close()
  await settled()
  m.machine.assertQuiescent()
})

test('held pages outlive their closed domain until the last hold ends', async () => {
  await using m = twoDomains()
  const share = m.front.grants.share({ domid: 0, pages: 1, writable: true })
  m.back.grants.map([{ domid: 1, gref: share.grefs[0] ?? 0 }], { writable: true })
  m.back.arena.allocate(2)
  m.back.evtchn.bindUnbound({ domid: 1 }, nothing)
  const [first, second] = [m.back.arena.hold(), m.back.arena.hold()]
  await m.back.close()
  const report = /domain 0 maps gref \d+ of domain 1 writable\n.*\n *domain 0 has 2 pages/
  for (const hold of [first, first, second]) {
    expect(() => m.machine.assertQuiescent()).toThrow(report)
    hold[Symbol.dispose]()
  }
  share.close()
})
