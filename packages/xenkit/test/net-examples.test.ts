/** Runs each example of network cards on a simulated machine, whose guests the test plays. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type SimDomain, type Vif, createMachine, openVif, openXenstore, plugVif } from 'xenkit'
import { arp, ethernet, ipv4, mac, macOf, udp } from '../../links/test/support/frames.ts'
import { Command } from './support/commands.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xenkit-net-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

/** Runs an example with guests, whose cards have the addresses `macOf(1)`, 10.0.0.1, and so on. */
async function withGuests(
  name: string,
  o: { readonly args?: readonly string[]; readonly guests: number },
  act: (...vifs: readonly Vif[]) => Promise<void>,
): Promise<void> {
  const machine = createMachine()
  try {
    const dom0 = machine.createDomain()
    const guests: SimDomain[] = []
    const module = join(import.meta.dirname, '../../../examples', `${name}.ts`)
    const example = new Command(dom0, o.args ?? [], pathToFileURL(module).href)
    const failed = example.ended.then(({ code, stderr }) => {
      throw new Error(`the example ended with ${code}: ${stderr}`)
    })
    using xs = await openXenstore(dom0.xenstore)
    for (let i = 1; i <= o.guests; i++) {
      const guest = machine.createDomain()
      guests.push(guest)
      await plugVif(xs, {
        frontendDomid: guest.domid,
        backendDomid: 0,
        devid: 0,
        mac: Uint8Array.from(mac(macOf(i))),
        ips: [`10.0.0.${i}`],
      })
    }
    const opening = Promise.all(guests.map((guest) => openVif(guest, { devid: 0 })))
    const vifs = await Promise.race([opening, failed])
    await Promise.race([act(...vifs), failed])
    for (const vif of vifs) await vif.close()
    failed.catch(() => {})
    await example.kill()
  } finally {
    await machine.close()
  }
}

const send = (vif: Vif | undefined, frame: readonly number[]): Promise<void> | undefined =>
  vif?.sendFrame(Uint8Array.from(frame))

/** A UDP packet of guest 1 to guest 2. */
const datagram = (o: { readonly from?: string; readonly port: number; readonly text: string }) =>
  ethernet({
    from: macOf(1),
    to: macOf(2),
    type: 0x0800,
    payload: ipv4({
      from: o.from ?? '10.0.0.1',
      to: '10.0.0.2',
      protocol: 17,
      payload: udp(40_000, o.port, [...Buffer.from(o.text)]),
    }),
  })

/** Collects the texts of frames that come, until `last` is among them. */
async function texts(vif: Vif | undefined, last: string): Promise<string> {
  let all = ''
  for await (const frame of vif ?? []) {
    all += Buffer.from(frame).toString('latin1')
    if (all.includes(last)) return all
  }
  throw new Error(`the card was closed before "${last}" came`)
}

test('net-switch: guests reach each other, from their own addresses alone', async () => {
  await withGuests('net-switch', { guests: 2 }, async (a, b) => {
    const arriving = texts(b, 'genuine')
    await send(a, datagram({ port: 9, text: 'spoofed', from: '10.0.0.3' }))
    await send(a, datagram({ port: 9, text: 'genuine' }))
    expect(await arriving).not.toContain('spoofed')
  })
}, 60_000)

test('net-capture: the file has the frames of both cards', async () => {
  const file = join(folder, 'guests.pcapng')
  await withGuests('net-capture', { args: [file], guests: 2 }, async (a, b) => {
    const arriving = texts(b, 'captured')
    await send(a, datagram({ port: 9, text: 'captured' }))
    await arriving
    // Once where it left the first card, once where it reached the second.
    const captured = (): number => readFileSync(file, 'latin1').split('captured').length - 1
    while (captured() < 2) await new Promise((resolve) => setTimeout(resolve, 10))
    expect(readFileSync(file).readUInt32LE(0)).toBe(0x0a0d0d0a)
  })
}, 60_000)

test('net-firewall: names can be looked up, other ports are closed', async () => {
  await withGuests('net-firewall', { guests: 2 }, async (a, b) => {
    const arriving = texts(b, 'a name')
    await send(a, datagram({ port: 54, text: 'anything else' }))
    await send(a, datagram({ port: 53, text: 'a name' }))
    expect(await arriving).not.toContain('anything else')
  })
}, 60_000)

const hasPasst = ((): boolean => {
  try {
    execFileSync('passt', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

test.skipIf(!hasPasst)(
  `net-user: passt answers as the gateway${hasPasst ? '' : ' (skipped: no passt)'}`,
  async () => {
    const args = ['--address', '10.0.0.1', '--gateway', '10.0.0.254']
    await withGuests('net-user', { args, guests: 1 }, async (a) => {
      const question = arp({ operation: 1, mac: macOf(1), ip: '10.0.0.1', target: '10.0.0.254' })
      const to = 'ff:ff:ff:ff:ff:ff'
      const answered = a?.[Symbol.asyncIterator]().next()
      await send(a, ethernet({ from: macOf(1), to, type: 0x0806, payload: question }))
      const { value: answer } = (await answered) ?? {}
      expect([...(answer ?? [])].slice(12, 22)).toEqual([8, 6, 0, 1, 8, 0, 6, 4, 0, 2])
      expect([...(answer ?? [])].slice(28, 32)).toEqual([10, 0, 0, 254])
    })
  },
  60_000,
)
