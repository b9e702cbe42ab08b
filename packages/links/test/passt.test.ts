/** The link against passt itself, and against stand-ins that die or talk nonsense. */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { Frames } from '@xenkit/frames'
import { type LinkEvent, openPasst, type PasstOptions } from '../src/index.ts'
import { TestCard } from './support/test-card.ts'
import { TcpGuest } from './support/tcp-guest.ts'
import { ethernet } from './support/frames.ts'

const reason = spawnSync('passt', ['--version']).error?.message
const skipped = reason ? ` (skipped: ${reason})` : ''

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xenkit-passt-'))
  // Runs after what the test registers later: its stand-ins have ended by then.
  onTestFinished(() => rm(directory, { recursive: true }))
})

/** Resolves once `condition` holds. If it never does, the test's timeout ends the wait. */
async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5))
}

/** Plugs a card into a passt that is a program of the test's. */
async function standIn(
  script: string,
  o: Pick<PasstOptions, 'onEvent'> & { readonly card?: TestCard } = {},
) {
  const program = join(directory, 'passt')
  await writeFile(program, `#!${process.execPath}\n${script}`)
  await chmod(program, 0o755)
  const { card = new TestCard(), onEvent } = o
  const link = openPasst({ program, args: [directory], ...(onEvent && { onEvent }) })
  await card.plugInto(link)
  onTestFinished(async () => card.link.close())
  return { card, link }
}

const ECHO = `
const { Socket } = require('node:net')
const stream = new Socket({ fd: 3 })
const { writeFileSync } = require('node:fs')
let echoed = 0
stream.on('data', (bytes) => {
  stream.write(bytes)
  writeFileSync(process.argv.at(-1) + '/echoed', String((echoed += bytes.length)))
})
writeFileSync(process.argv.at(-1) + '/pid', String(process.pid))`

const numbered = (count: number, bytes = 50): number[][] =>
  Array.from({ length: count }, (_, i) =>
    ethernet({ payload: Array.from({ length: bytes + (i % 7) }, (_, at) => (i + at) & 0xff) }),
  )

test('frames come back in order, whatever the chunks of the stream', async () => {
  const { card, link } = await standIn(`
    const { Socket } = require('node:net')
    const stream = new Socket({ fd: 3 })
    let all = Buffer.alloc(0)
    // Chunks of 1, 2, 3 ... bytes: lengths and frames are cut at every place.
    stream.on('data', async (bytes) => {
      all = Buffer.concat([all, bytes])
      if (all.length < 150 * 70) return
      for (let at = 0, size = 1; at < all.length; at += size++) {
        stream.write(all.subarray(at, at + size))
        await new Promise(setImmediate)
      }
      stream.write(all)
    })`)
  const frames = numbered(150)
  card.transmit(...frames.slice(0, 100))
  card.transmit(...frames.slice(100))
  await until(() => card.got.length === 300)
  expect(card.take()).toEqual([...frames, ...frames])
  expect(link.dropped).toBe(0)
})

test('a paused card gets no frames until it goes on', async () => {
  const { card } = await standIn(ECHO)
  card.transmit(...numbered(1))
  await until(() => card.got.length === 1)
  card.link.pause?.(true)
  card.transmit(...numbered(3))
  const echoed = async () =>
    Number(await readFile(join(directory, 'echoed'), 'utf8').catch(() => 0))
  const bytes = [...numbered(1), ...numbered(3)].reduce((sum, frame) => sum + 4 + frame.length, 0)
  await until(async () => (await echoed()) === bytes)
  // Frames that have arrived would be read in the next turn of the event loop.
  for (let i = 0; i < 3; i++) await new Promise(setImmediate)
  expect(card.got.length).toBe(1)
  card.link.pause?.(false)
  await until(() => card.got.length === 4)
})

test('frames for a passt that does not read are bounded, and the card is asked to pause', async () => {
  const pauses: boolean[] = []
  class PausedCard extends TestCard {
    pause(paused: boolean): void {
      pauses.push(paused)
    }
  }
  const { card, link } = await standIn(
    `const { existsSync } = require('node:fs')
    const { Socket } = require('node:net')
    const timer = setInterval(() => {
      if (!existsSync(process.argv.at(-1) + '/go')) return
      clearInterval(timer)
      new Socket({ fd: 3 }).resume()
    }, 5)`,
    { card: new PausedCard() },
  )
  const batch = new Frames(64)
  batch.reset(new Uint8Array(60_000))
  for (let i = 0; i < 64; i++) batch.add({ start: 0, length: 60_000 })
  card.link.send(batch)
  expect(pauses).toEqual([true])
  card.link.send(batch)
  expect(link.dropped).toBe(64)
  await writeFile(join(directory, 'go'), '')
  await until(() => pauses.length === 2)
  expect(pauses).toEqual([true, false])
})

test('a passt that is killed is started again, and the carrier tells', async () => {
  const events: LinkEvent[] = []
  const { card, link } = await standIn(ECHO, { onEvent: (event) => events.push(event) })
  expect(card.carriers).toEqual([true])
  const pid = async () => Number(await readFile(join(directory, 'pid'), 'utf8').catch(() => ''))
  await until(async () => (await pid()) > 0)
  const first = await pid()
  process.kill(first, 'SIGKILL')
  await until(() => card.carriers.length === 3)
  expect(card.carriers).toEqual([true, false, true])
  expect(events).toMatchObject([
    { kind: 'lost', card: 'vif1.0', error: { message: 'passt ended with SIGKILL' } },
    { kind: 'reopened', card: 'vif1.0' },
  ])
  card.transmit(...numbered(2))
  await until(() => card.got.length === 2)
  expect(link.dropped).toBe(0)
})

test('frames are dropped and counted while passt is away', async () => {
  const { card, link } = await standIn(`
    process.stderr.write('no network')
    process.exitCode = 7`)
  await until(() => card.carriers.includes(false))
  card.transmit(...numbered(3))
  expect(link.dropped).toBe(3)
})

test('passt is started again with growing delays, and its last words are told', async () => {
  const times: number[] = []
  const words: string[] = []
  await standIn(`process.stderr.write('no network'); process.exitCode = 7`, {
    onEvent: (event) => {
      if (event.kind !== 'lost') return
      times.push(performance.now())
      words.push(event.error.message)
    },
  })
  await until(() => times.length === 4)
  expect(words[0]).toBe('passt ended with status 7: no network')
  const gaps = times.slice(1).map((time, i) => time - (times[i] ?? 0))
  expect(gaps[0]).toBeGreaterThanOrEqual(100)
  expect(gaps[1]).toBeGreaterThanOrEqual(200)
  expect(gaps[2]).toBeGreaterThanOrEqual(400)
})

test.each([
  ['shorter than a header', 13],
  ['longer than a frame', 65_536],
])('a length %s ends passt', async (_, length) => {
  const events: LinkEvent[] = []
  await standIn(
    `const bytes = Buffer.alloc(20)
    bytes.writeUInt32BE(${length})
    new (require('node:net').Socket)({ fd: 3 }).write(bytes)`,
    { onEvent: (event) => events.push(event) },
  )
  await until(() => events.length > 0)
  expect(events[0]).toMatchObject({ kind: 'lost', error: { message: 'passt ended with SIGKILL' } })
})

test('after close nothing is started, and nothing reaches the card', async () => {
  const { card } = await standIn(ECHO)
  await until(async () => (await readFile(join(directory, 'pid'), 'utf8').catch(() => '')) !== '')
  const pid = Number(await readFile(join(directory, 'pid'), 'utf8'))
  await card.link.close()
  expect(() => process.kill(pid, 0)).toThrow('ESRCH')
  expect(card.carriers).toEqual([true])
})

test('a passt that is stopped does not keep the link from closing', async () => {
  const { card } = await standIn(ECHO)
  await until(async () => (await readFile(join(directory, 'pid'), 'utf8').catch(() => '')) !== '')
  const pid = Number(await readFile(join(directory, 'pid'), 'utf8'))
  process.kill(pid, 'SIGSTOP')
  await card.link.close()
  expect(() => process.kill(pid, 0)).toThrow('ESRCH')
})

test('a program that is missing fails the plugging, and says what to do', async () => {
  const link = openPasst({ program: join(directory, 'nowhere') })
  await expect(new TestCard().plugInto(link)).rejects.toThrow(
    /nowhere" can't be started \(.*ENOENT\): is it installed\? Debian has it as the package passt/,
  )
})

describe.skipIf(reason !== undefined)(`passt itself${skipped}`, () => {
  test('gives a guest the network of the host', async () => {
    const server = createServer((_, response) => response.end('x'.repeat(200_000)))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const address = server.address()
    const port = typeof address === 'object' ? (address?.port ?? 0) : 0
    // The host's own loopback is at the gateway's address.
    const link = openPasst({ args: ['--address', '10.0.2.15', '--gateway', '10.0.2.2'] })
    const guest = new TcpGuest({ ip: '10.0.2.15', peer: '10.0.2.2', port })
    const plugged = await link.plug(guest)
    onTestFinished(() => plugged.close())
    guest.link = plugged
    plugged.carrier?.(true)
    guest.open()
    await until(() => guest.isOpen)
    guest.write(Buffer.from('GET / HTTP/1.0\r\n\r\n'))
    const text = () => Buffer.concat(guest.data).toString()
    await until(() => text().endsWith('x'.repeat(200_000)))
    expect(text()).toMatch(/^HTTP\/1.1 200 OK\r\n/)
  })
})
