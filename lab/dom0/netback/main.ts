/**
 * Runs `openVif` in dom0 against two backends in dom0, with the same checks for both. `kernel` is
 * Linux's netback, and `xenkit` is `serveVif` with TAP devices. The scenario `netback` reads the
 * output.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { promisify } from 'node:util'
import { openXen } from '@xenkit/xen'
import { openXenstore, type XenstoreClient } from '@xenkit/xenstore-client'
import { openTap, plugVif, serveVif, unplugVif } from 'xenkit'
import { soon } from '../tap.ts'
import type { Station } from './packets.ts'
import { checkCard } from './suite.ts'

const [BRIDGE, ECHO_PORT] = ['br-suite', 7100]
const cards = [1, 2] as const
const shell = async (command: string): Promise<string> =>
  (await promisify(execFile)('bash', ['-e', '-c', command])).stdout.trim()

const v6 = (last: number): number[] => [0xfd, ...Array.from({ length: 14 }, () => 0), last]
const host: Station = { mac: [2, 0, 0, 0, 0, 1], v4: [10, 77, 0, 1], v6: v6(1) }
const parties = [
  { mac: [2, 0, 0, 0, 0, 2], v4: [10, 77, 0, 2], v6: v6(2) },
  { mac: [2, 0, 0, 0, 0, 3], v4: [10, 77, 0, 3], v6: v6(3) },
] as const

const macText = ({ mac }: Station): string =>
  mac.map((byte) => byte.toString(16).padStart(2, '0')).join(':')
const v6Text = (station: Station): string => `fd00::${station.v6.at(-1)}`

const addressOf = (devid: number) => ({ frontendDomid: 0, backendDomid: 0, devid })

/** A bridge with the addresses of `host`, to which the parties are known. */
async function openBridge(): Promise<void> {
  await shell(
    `modprobe bridge; ip link add ${BRIDGE} type bridge; ip link set ${BRIDGE} address ${macText(host)} up
     ip addr add ${host.v4.join('.')}/24 dev ${BRIDGE}; ip addr add ${v6Text(host)}/64 dev ${BRIDGE} nodad`,
  )
  for (const party of parties) {
    for (const address of [party.v4.join('.'), v6Text(party)]) {
      await shell(`ip neigh add ${address} lladdr ${macText(party)} dev ${BRIDGE} nud permanent`)
    }
  }
}

/** Plugs a card, and puts its interface on the bridge, as Xen's script `vif-bridge` does. */
async function plug(xs: XenstoreClient, devid: number): Promise<void> {
  await plugVif(xs, { ...addressOf(devid), bridge: BRIDGE })
  const name = `vif0.${devid}`
  const backend = `/local/domain/0/backend/vif/0/${devid}`
  await soon(
    'the offer',
    xs.wait(async (view) => (await view.readOptional(`${backend}/state`)) === '2' || undefined),
  )
  if (!existsSync(`/sys/class/net/${name}`)) throw new Error(`there is no interface ${name}`)
  await shell(`ip link set ${name} master ${BRIDGE} up`)
  await xs.write(`${backend}/hotplug-status`, 'connected')
}

async function runSuite(name: string): Promise<void> {
  for (const devid of cards) await plug(xs, devid)
  await checkCard(hv, { name, cards, host, parties, echoPort: ECHO_PORT })
  for (const devid of cards) await soon('the unplugging', unplugVif(xs, addressOf(devid)))
}

const hv = await openXen()
const xs = await openXenstore(hv.xenstore)
await openBridge()
const echo = execFile('net-bench', ['serve', String(ECHO_PORT)])
if (process.argv[2] === 'kernel') {
  await runSuite('netback')
} else {
  const stop = new AbortController()
  const serving = serveVif(hv, { link: openTap({ up: false }), signal: stop.signal })
  await runSuite('xenkit')
  stop.abort()
  await serving
}
echo.kill()
await shell(`ip link del ${BRIDGE}`)
xs.close()
await hv.close()
console.log('# end')
