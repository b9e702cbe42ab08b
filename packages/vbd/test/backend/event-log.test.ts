/** Log lines of a server about its disks: each reason once, whatever a guest does. */
import { createMachine } from '@xenkit/sim'
import { openXenstore } from '@xenkit/xenstore-client'
import { afterEach, expect, test, vi } from 'vitest'
import { type VbdEvent, openVbd, eventLog, plugVbd, serveVbd } from '../../src/index.ts'

afterEach(() => void vi.restoreAllMocks())

type Told = Pick<VbdEvent, 'kind'> & { readonly error?: unknown; readonly devid?: number }

/** A log, its clock, and its lines since the last look. */
function log() {
  let now = 1_000
  vi.spyOn(performance, 'now').mockImplementation(() => now)
  const lines: string[] = []
  const tell = eventLog((line, { failed }) => lines.push(failed ? `! ${line}` : line))
  return {
    tell: ({ devid = 51712, ...event }: Told) =>
      tell({ ...event, disk: { devid, frontendDomid: 3 } } as VbdEvent),
    pass: (ms: number) => (now += ms),
    lines: () => lines.splice(0),
  }
}

test('a reason is printed once a disk, then counted; the count follows later', () => {
  const { tell, pass, lines } = log()
  const fails = (at: number, devid?: number): void =>
    tell({
      kind: 'store-failed',
      error: new Error(`no sector ${at}`),
      ...(devid !== undefined && { devid }),
    })
  fails(7)
  expect(lines()).toEqual(['! xvda of domain 3: the store failed a request: no sector 7'])
  for (let at = 0; at < 500; at++) fails(at)
  tell({ kind: 'failed', error: new Error('no sector 7') })
  fails(8, 51728)
  expect(lines()).toEqual([
    '! xvda of domain 3: no sector 7',
    '! xvdb of domain 3: the store failed a request: no sector 8',
  ])
  pass(60_000)
  fails(9)
  expect(lines()).toEqual([
    '! xvda of domain 3: the store failed a request: no sector 7 (500 times more)',
    '! xvda of domain 3: the store failed a request: no sector 9',
  ])
})

test('a disk that connects and fails without pause makes few lines', () => {
  const { tell, lines } = log()
  for (let life = 0; life < 1000; life++) {
    tell({ kind: 'connected' })
    tell({ kind: 'failed', error: new Error('bad ring') })
    tell({ kind: 'closed' })
  }
  expect(lines()).toEqual(
    [
      'connected',
      'bad ring',
      'closed',
      'connected',
      'closed',
      'connected',
      'closed',
      'connected',
      'closed',
    ].map((text) => `${text === 'bad ring' ? '! ' : ''}xvda of domain 3: ${text}`),
  )
  tell({ kind: 'removed' })
  expect(lines()).toEqual([
    'xvda of domain 3: removed',
    'xvda of domain 3: connected (996 times more)',
    '! xvda of domain 3: bad ring (999 times more)',
    'xvda of domain 3: closed (996 times more)',
  ])
  tell({ kind: 'connected' })
  expect(lines()).toEqual(['xvda of domain 3: connected'])
})

test('reasons that a guest makes up are bounded in number and memory', () => {
  const { tell, lines } = log()
  const word = (n: number): string =>
    [...String(n)].map((digit) => 'abcdefghij'[Number(digit)]).join('')
  for (let n = 0; n < 1000; n++) {
    tell({ kind: 'failed', error: new Error(`node holds "${word(n)}"`) })
  }
  const told = lines()
  expect(told).toHaveLength(17)
  expect(told.at(-1)).toBe('! xvda of domain 3: failed for other reasons')
  tell({ kind: 'removed' })
  expect(lines()).toEqual([
    'xvda of domain 3: removed',
    '! xvda of domain 3: failed for other reasons (983 times more)',
  ])
})

test.each([
  ['text', 'no disk', 'no disk'],
  [
    'text that would end the line and turn the next',
    new Error('a\n\x85b\u2067'),
    'a\\u000a\\u0085b\\u2067',
  ],
  ['nothing', undefined, 'undefined'],
  ['an error without words', new TypeError(), 'TypeError'],
  ["what can't be made text", Object.create(null), 'an object that has no text was thrown'],
])('%s that a store threw is told', (_, error, text) => {
  const { tell, lines } = log()
  tell({ kind: 'refused', error })
  expect(lines()).toEqual([`! xvda of domain 3: not changed: ${text}`])
})

test("without onEvent a store's error is printed, once, and what goes well is not", async () => {
  const print = vi.spyOn(console, 'error').mockImplementation(() => {})
  await using machine = createMachine()
  const [dom0, guest] = [machine.createDomain(), machine.createDomain()]
  const stop = new AbortController()
  const serving = serveVbd(dom0, {
    store: {
      sectors: 64,
      read(sector) {
        if (sector < 32) throw new Error('the disk is on fire')
      },
    },
    signal: stop.signal,
  })
  {
    using xs = await openXenstore(dom0.xenstore)
    await plugVbd(xs, {
      frontendDomid: guest.domid,
      backendDomid: dom0.domid,
      vdev: 'xvda',
      readOnly: true,
    })
    await using disk = await openVbd(guest, { vdev: 'xvda' })
    for (let times = 0; times < 3; times++) {
      await expect(disk.read(0, [new Uint8Array(512)])).rejects.toThrow('answered -1')
      await disk.read(40, [new Uint8Array(512)])
    }
  }
  stop.abort()
  await serving
  expect(print.mock.calls).toEqual([
    ['xvda of domain 1: the store failed a request: the disk is on fire'],
  ])
})
