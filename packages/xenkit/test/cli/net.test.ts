/** `xenkit net`: several commands on one simulated machine. */
import { type PlugVifOptions, openXenstore, plugVif } from '../../src/index.ts'
import { expect, test } from 'vitest'
import { expectComplaint, machine } from '../support/commands.ts'

type Machine = Awaited<ReturnType<typeof machine>>

/** Plugs card 0 of the guest, as a toolstack does. */
async function plug(m: Machine, o: Partial<PlugVifOptions> = {}): Promise<void> {
  using xs = await openXenstore(m.dom0.xenstore)
  const address = { frontendDomid: m.guest.domid, backendDomid: 0, devid: 0 }
  await plugVif(xs, { ...address, mac: Uint8Array.of(0, 0x16, 0x3e, 1, 2, 3), ...o })
}

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

test.each([
  [['detach', '1', 'eth0'], /number of a card/],
  [['detach', '1', '4294967296'], /number of a card/],
  [['detach', '40000', '0'], /domain id/],
])('wrong arguments %j', async (args, says) => {
  await using m = await machine('net')
  const { code, stderr } = await m.run(...args)
  expect(stderr).toMatch(says)
  expect(code).toBe(2)
})
