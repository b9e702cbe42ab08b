/** `xenkit net capture` and `mirror`, of cards that another command serves. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Vif, openVif, openXenstore, plugVif } from '../../src/index.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { expectComplaint, machine } from '../support/commands.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xenkit-watch-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const macOf = (last: number): Uint8Array => Uint8Array.of(0, 0x16, 0x3e, 1, 2, last)

const BROADCAST = new Uint8Array(6).fill(0xff)
/** The addresses of the cards a, b and c. */
const [A, B, C] = [macOf(1), macOf(2), macOf(3)]

/** Addresses of a sender and a collector. */
const ENDS = '00:16:3e:00:00:01/192.0.2.1,00:16:3e:00:00:02/192.0.2.2'

const DONE = { code: 0, stdout: '', stderr: '' }

/** A card of a guest. */
interface TestedCard {
  readonly vif: Vif
  /** The command's arguments that name the card. */
  readonly id: readonly [string, string]
  /** Name of the card in `--to`. */
  readonly port: string
  /** Resolves with the next frame, as text. */
  next(): Promise<string>
}

/** Three guests, whose cards one command connects by its switch. */
async function rig() {
  const m = await machine('net')
  const served = m.start('serve', '--switch')
  await served.says(/waiting for a network card/)
  using xs = await openXenstore(m.dom0.xenstore)
  const card = async (hv: typeof m.guest, mac: Uint8Array): Promise<TestedCard> => {
    const { domid } = hv
    await plugVif(xs, { frontendDomid: domid, backendDomid: 0, devid: 0, mac })
    const vif = await openVif(hv, { devid: 0 })
    const frames = vif[Symbol.asyncIterator]()
    return {
      vif,
      id: [String(domid), '0'],
      port: `card:${domid}.0`,
      next: async () => Buffer.from((await frames.next()).value ?? []).toString('latin1'),
    }
  }
  const a = await card(m.guest, A)
  const b = await card(m.createDomain(), B)
  const c = await card(m.createDomain(), C)
  // The switch learns where b is, so that c sees nothing of what is sent to it.
  await b.vif.sendFrame(frameOf(BROADCAST, B, 'here'))
  await Promise.all([a.next(), c.next()])
  return {
    ...m,
    served,
    a,
    b,
    c,
    /** Sends a frame from a to b, and waits until it has arrived. */
    async send(text: string): Promise<void> {
      await a.vif.sendFrame(frameOf(B, A, text))
      expect(await b.next()).toContain(text)
    },
    async [Symbol.asyncDispose]() {
      for (const { vif } of [a, b, c]) await vif.close()
      await served.kill()
      await m.close()
    },
  }
}

/** A frame of an experimental protocol. */
const frameOf = (to: Uint8Array, from: Uint8Array, text: string): Uint8Array =>
  Buffer.concat([to, from, Uint8Array.of(0x88, 0xb5), Buffer.from(text)])

test('a capture starts and ends while the card is used', async () => {
  await using r = await rig()
  const file = join(folder, 'started.pcapng')
  await r.send('before it')
  expect(await r.run('capture', ...r.a.id, file)).toEqual(DONE)
  await r.send('within it')
  await r.b.vif.sendFrame(frameOf(A, B, 'the answer'))
  await r.a.next()
  expect(await r.run('capture', ...r.a.id)).toEqual(DONE)
  const captured = readFileSync(file, 'latin1')
  await r.send('after it')
  expect(readFileSync(file, 'latin1')).toBe(captured)
  expect(captured).toContain(`vif${r.a.id[0]}.0`)
  expect(['before it', 'within it', 'the answer'].map((text) => captured.includes(text))).toEqual([
    false,
    true,
    true,
  ])
  expect(await r.run('capture', ...r.a.id)).toEqual(DONE)
}, 60_000)

/** Type of the block that ends a capture. */
const INTERFACE_STATISTICS = 5

/** Type of a pcapng file's last block, whose length is both its second and its last word. */
const lastBlock = (file: Buffer): number =>
  file.readUInt32LE(file.length - file.readUInt32LE(file.length - 4))

test('a new capture replaces the one that runs, and ends with its card', async () => {
  await using r = await rig()
  const [first, second] = [join(folder, 'first.pcapng'), join(folder, 'second.pcapng')]
  await r.run('capture', ...r.a.id, first)
  await r.send('one')
  await r.run('capture', ...r.a.id, second)
  await r.send('two')
  expect(readFileSync(first, 'latin1')).toMatch(/^(?!.*two).*one/s)
  await r.a.vif.close()
  await r.run('detach', ...r.a.id)
  await expect.poll(() => lastBlock(readFileSync(second))).toBe(INTERFACE_STATISTICS)
  expect(readFileSync(second, 'latin1')).toMatch(/^(?!.*one).*two/s)
}, 60_000)

test('a capture that its server cannot write is refused, and the guest is not told the path', async () => {
  await using r = await rig()
  const file = join(folder, 'nowhere', 'x.pcapng')
  expectComplaint(await r.run('capture', ...r.a.id, file), /x\.pcapng" can't be written: ENOENT/)
  using xs = await openXenstore(r.dom0.xenstore)
  const path = `/local/domain/0/backend/vif/${r.a.id[0]}/0`
  expect(await xs.read(`${path}/xenkit-result`)).toMatch(/can't be written/)
  expect(await xs.read(`${path}/xenkit-result`)).not.toContain('nowhere')
  expect(await xs.exists(`${path}/xenkit-capture`)).toBe(false)
  await r.send('still works')
}, 60_000)

test('a named pipe gets a capture; one that nobody reads is refused', async () => {
  await using r = await rig()
  const pipe = join(folder, 'pipe')
  execFileSync('mkfifo', [pipe])
  expectComplaint(await r.run('capture', ...r.a.id, pipe), /pipe" can't be written: nobody reads/)
  const reading = readFile(pipe, 'latin1')
  expect(await r.run('capture', ...r.a.id, pipe)).toEqual(DONE)
  await r.send('live')
  expect(await r.run('capture', ...r.a.id)).toEqual(DONE)
  expect(await reading).toContain('live')
}, 60_000)

test("a mirror copies a card's frames to the card of a guest that watches", async () => {
  await using r = await rig()
  await r.send('before it')
  expect(await r.run('mirror', ...r.a.id, '--to', r.c.port)).toEqual(DONE)
  await r.send('within it')
  expect(await r.c.next()).toContain('within it')
  await r.b.vif.sendFrame(frameOf(A, B, 'the answer'))
  expect(await r.c.next()).toContain('the answer')
  expect(await r.run('mirror', ...r.a.id)).toEqual(DONE)
  await r.send('after it')
  await r.b.vif.sendFrame(frameOf(C, B, 'for c'))
  expect(await r.c.next()).toContain('for c')
}, 60_000)

test('a mirror by ERSPAN wraps the copies', async () => {
  await using r = await rig()
  const started = await r.run('mirror', ...r.a.id, '--to', r.c.port, '--erspan', `${ENDS},7`)
  expect(started).toEqual(DONE)
  await r.send('wrapped')
  const copy = Buffer.from(await r.c.next(), 'latin1')
  expect(copy.subarray(0, 14).toString('hex')).toBe('00163e00000200163e0000010800')
  // The session is in the low bits of the ERSPAN header's second word.
  expect([copy[23], copy.readUInt16BE(44) & 0x3ff]).toEqual([47, 7])
  expect(copy.subarray(50)).toEqual(frameOf(B, A, 'wrapped'))
}, 60_000)

test('a mirror ends when its target is unplugged', async () => {
  await using r = await rig()
  await r.run('mirror', ...r.a.id, '--to', r.c.port)
  await r.send('one')
  await r.c.vif.close()
  await r.run('detach', ...r.c.id)
  await r.served.says(new RegExp(`vif${r.c.id[0]}\\.0 of domain \\d+: removed`))
  await r.send('two')
  expectComplaint(
    await r.run('mirror', ...r.a.id, '--to', r.c.port),
    /was not changed: card 0 of domain \d+ isn't served by this program/,
  )
  // A card whose server is killed can't be closed.
  await r.a.vif.close()
  await r.b.vif.close()
  await r.served.kill()
  expect((await r.served.ended).stderr).toMatch(/its mirror ended: vif\d+\.0 is gone\n/)
}, 60_000)

test('a mirror to itself, and requests to a card that xenkit does not serve, are refused', async () => {
  await using m = await machine('net')
  using xs = await openXenstore(m.dom0.xenstore)
  const id = String(m.guest.domid)
  await plugVif(xs, { frontendDomid: m.guest.domid, backendDomid: 0, devid: 0 })
  expectComplaint(await m.run('capture', id, '0', '/dev/null'), /is not served by xenkit/)
  expectComplaint(await m.run('mirror', id, '1', '--to', 'tap:x'), /has no network card 1/)
  const served = m.start('serve', '--switch')
  await served.says(/offered/)
  const itself = await m.run('mirror', id, '0', '--to', `card:${id}.0`)
  expectComplaint(itself, /can't be mirrored to itself/)
  await m.run('detach', id, '0')
  await served.kill()
}, 60_000)

test.each([
  [['mirror', '1', '0', '--to', 'br0'], /card:3\.0 or tap:NAME/],
  [['mirror', '1', '0', '--to', 'tap:x', '--erspan', '192.0.2.1'], /of both ends/],
  [['mirror', '1', '0', '--erspan', ENDS], /--erspan needs --to/],
])('wrong arguments %j', async (args, says) => {
  await using m = await machine('net')
  const { code, stderr } = await m.run(...args)
  expect(stderr).toMatch(says)
  expect(code).toBe(2)
})
