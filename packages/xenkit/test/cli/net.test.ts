/** `xenkit net`: several commands on one simulated machine. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type PlugVifOptions, openVif, openXenstore, plugVif } from '../../src/index.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ip, whyNoTap } from '../../../../native/test/tap.ts'
import { expectComplaint, machine } from '../support/commands.ts'

type Machine = Awaited<ReturnType<typeof machine>>

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xenkit-net-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const macOf = (last: number): Uint8Array => Uint8Array.of(0, 0x16, 0x3e, 1, 2, last)

/** Plugs card 0 of a guest, as a toolstack does. */
async function plug(m: Machine, o: Partial<PlugVifOptions> = {}): Promise<void> {
  using xs = await openXenstore(m.dom0.xenstore)
  const address = { frontendDomid: m.guest.domid, backendDomid: 0, devid: 0 }
  await plugVif(xs, { ...address, mac: macOf(3), ...o })
}

/** A frame of an experimental protocol. */
const frameOf = (to: Uint8Array, from: Uint8Array, text: string): Uint8Array =>
  Buffer.concat([to, from, Uint8Array.of(0x88, 0xb5), Buffer.from(text)])

test('a card that nobody serves is listed and detached', async () => {
  await using m = await machine('net')
  const id = String(m.guest.domid)
  await plug(m, { bridge: 'br0', ips: ['10.0.0.2'], mtu: 9000 })
  const [table, json] = [await m.run('list'), await m.run('list', '--json')]
  expect(table.stdout.split('\n').map((line) => line.split(/ +/))).toEqual([
    ['domid', 'devid', 'interface', 'mac', 'backend', 'frontend', 'bridge', 'xenkit', 'error'],
    [id, '0', `vif${id}.0`, '00:16:3e:01:02:03', 'Initialising', 'Initialising', 'br0', 'no', '-'],
    [''],
  ])
  expect(JSON.parse(json.stdout)).toMatchObject([
    { frontendDomid: m.guest.domid, mac: '00:16:3e:01:02:03', ips: ['10.0.0.2'], mtu: 9000 },
  ])
  expectComplaint(await m.run('detach', id, '1'), /has no network card 1 .* "xenkit net list"/)
  expect(await m.run('detach', id, '0')).toEqual({ code: 0, stdout: '', stderr: '' })
  expect(JSON.parse((await m.run('list', '--json')).stdout)).toEqual([])
}, 60_000)

test('a card is attached with its settings, captured and detached', async () => {
  await using m = await machine('net')
  const id = String(m.guest.domid)
  const file = join(folder, 'attached.pcapng')
  const settings = ['--mac', '00:16:3e:01:02:05', '--ip', '10.0.0.5', '--ip', '2001:db8::5']
  const limits = ['--rate', '8Mb/s@20ms', '--mtu', '9000']
  const attached = m.start('attach', id, '--switch', '--capture', file, ...settings, ...limits)
  await attached.says(/vif\d+\.0 of domain \d+: offered/)
  expect(JSON.parse((await m.run('list', '--json')).stdout)).toMatchObject([
    {
      devid: 0,
      mac: '00:16:3e:01:02:05',
      ips: ['10.0.0.5', '2001:db8::5'],
      rate: { bytes: 20_000, periodUs: 20_000 },
      mtu: 9000,
      claim: expect.any(String),
    },
  ])
  const vif = await openVif(m.guest, { devid: 0 })
  await vif.sendFrame(frameOf(macOf(9), macOf(5), 'captured'))
  await vif.close()
  expect(await m.run('detach', id, '0')).toEqual({ code: 0, stdout: '', stderr: '' })
  expect(await attached.ended).toMatchObject({ code: 0, stderr: '' })
  const capture = readFileSync(file, 'latin1')
  expect(capture).toContain(`vif${id}.0`)
  expect(capture).toContain('captured')
}, 60_000)

test('a second card gets the next number', async () => {
  await using m = await machine('net')
  const id = String(m.guest.domid)
  await plug(m)
  const attached = m.start('attach', id, '--switch')
  await attached.says(/vif\d+\.1 of domain \d+: offered/)
  await m.run('detach', id, '1', '--force')
  await m.run('detach', id, '0')
  expect((await attached.ended).code).toBe(0)
}, 60_000)

test('serve connects two guests, and drops what a guest sends from addresses of others', async () => {
  const m = await machine('net')
  try {
    const other = m.createDomain()
    const served = m.start('serve', '--switch')
    await served.says(/waiting for a network card/)
    await plug(m)
    await plug(m, { frontendDomid: other.domid, mac: macOf(4) })
    const [a, b] = await Promise.all([m.guest, other].map((hv) => openVif(hv, { devid: 0 })))
    if (!a || !b) throw new Error('both cards are open')
    const arriving = b[Symbol.asyncIterator]()
    await a.sendFrame(frameOf(macOf(4), macOf(7), 'spoofed'))
    await a.sendFrame(frameOf(macOf(4), macOf(3), 'genuine'))
    expect(Buffer.from((await arriving.next()).value ?? []).toString('latin1')).toContain('genuine')
    await a.close()
    await b.close()
    await served.kill()
  } finally {
    await m.close()
  }
}, 60_000)

test('demo net verifies a transfer between guests, and reads its capture back', async () => {
  await using m = await machine('demo')
  const { code, stdout, stderr } = await m.run('net', '--seed', '7')
  expect(stdout).toMatch(/^\n16 MiB in [\d.]+ s; nothing leaked \(seed 7\)\n$/)
  const [sent, captured] = stderr.split('\n').filter((line) => line.startsWith('✔'))
  expect(sent).toMatch(/sent 16 MiB to another by the switch: sha256 [0-9a-f]{16}…/)
  // Each frame twice: where it left a card, and where it reached the other one.
  expect(Number(/capture of (\d+) frames/.exec(captured ?? '')?.[1])).toBeGreaterThanOrEqual(4096)
  expect(code).toBe(0)
}, 60_000)

const noTap = whyNoTap()
test.skipIf(noTap !== undefined)(
  `--bridge gives the card an interface in the bridge${noTap ? ` (skipped: ${noTap})` : ''}`,
  async () => {
    await using m = await machine('net')
    const id = String(m.guest.domid)
    const absent = await m.run('attach', id, '--bridge', 'xktest-none')
    expectComplaint(absent, /can't join bridge "xktest-none": .*--switch or --passt/)
    ip('link', 'add', 'name', 'xktest-br', 'type', 'bridge')
    try {
      const attached = m.start('attach', id, '--bridge', 'xktest-br', '--mtu', '9000')
      await attached.says(/offered/)
      expect(ip('link', 'show', 'master', 'xktest-br')).toMatch(/ vif\d+\.0: .* mtu 9000 /)
      await m.run('detach', id, '0')
      expect((await attached.ended).code).toBe(0)
      expect(ip('link', 'show', 'master', 'xktest-br')).toBe('')
    } finally {
      ip('link', 'delete', 'xktest-br')
    }
  },
  60_000,
)

test.each([
  [['detach', '1', 'eth0'], /number of a card/],
  [['detach', '1', '4294967296'], /number of a card/],
  [['detach', '40000', '0'], /domain id/],
  [['attach', '1', '--mac', '00:16'], /expected an address/],
  [['attach', '1', '--rate', '10'], /10Mb\/s/],
  [['attach', '1', '--rate', '1Gb/s@9999s'], /10Mb\/s/],
  [['attach', '1', '--mtu', '67'], /68\.\.65521/],
  [['serve', '--queues', '9'], /1\.\.8/],
  [['serve', '--tap', '--switch'], /'--switch' cannot be used with option '--tap'/],
])('wrong arguments %j', async (args, says) => {
  await using m = await machine('net')
  const { code, stderr } = await m.run(...args)
  expect(stderr).toMatch(says)
  expect(code).toBe(2)
})
