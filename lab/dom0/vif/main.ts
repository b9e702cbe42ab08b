/**
 * Serves the cards of the scenario `vif`. A card's bridge names the link that it is plugged into:
 * one of the links below, or a bridge of dom0's kernel, to which Xen's script adds the card's TAP
 * device. On each SIGUSR2 this prints the statistics of every card, and of the guarded port, as
 * `stats N {"vif1.0": {...}}`, where N counts the signals.
 */
import {
  type Capture,
  captureLink,
  filterLink,
  type Link,
  mirrorLink,
  openCapture,
  openHypervisor,
  openMirror,
  openPasst,
  openSwitch,
  openTap,
  type RequestedCard,
  type ServedCard,
  serveVif,
} from 'xenkit'

const ICMP = 1

await using hv = await openHypervisor()
await using ethernet = openSwitch()
await ethernet.uplink(openTap({ name: 'tap-switch' }), { vlan: { access: 1 } })
const mirror = await openMirror(openTap({ name: 'tap-mirror' }))
/** Xen's script renames the interface, which has to be down for that, and sets it up. */
const bridged = openTap({ up: false })
const guarded = ethernet.port()
const links: Readonly<Record<string, Link>> = {
  'switch-a': ethernet.port(),
  'switch-b': ethernet.port(),
  'isolated-a': ethernet.port({ isolated: true }),
  'isolated-b': ethernet.port({ isolated: true }),
  vlan7: ethernet.port({ vlan: { access: 7 } }),
  trunk: ethernet.port({ vlan: { trunk: 'all', native: 1 } }),
  mirrored: mirrorLink(ethernet.port(), mirror),
  filtered: filterLink(ethernet.port(), (packet) => packet.protocol !== ICMP),
  passt: openPasst(),
}
const captured = ethernet.port()
let capture: Capture | undefined

async function linkOf({ bridge = '', ips }: RequestedCard): Promise<Link | 'decline'> {
  if (bridge.startsWith('br')) return bridged
  if (bridge === 'guarded') {
    guarded.change({ macs: 'card', ips })
    return guarded
  }
  if (bridge === 'capture') {
    capture = await openCapture('capture.pcapng')
    return captureLink(captured, capture)
  }
  return links[bridge] ?? 'decline'
}

const cards = new Map<string, ServedCard>()
const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())
let asked = 0
process.on('SIGUSR2', () => {
  const stats = Object.fromEntries([...cards].map(([name, card]) => [name, card.stats]))
  console.log(`stats ${++asked} ${JSON.stringify({ ...stats, guarded: guarded.stats })}`)
})
console.log(`pid ${process.pid}`)
await serveVif(hv, {
  link: linkOf,
  signal: stop.signal,
  onEvent({ kind, card, error }) {
    cards.set(card.name, card)
    console.log(`${card.name}: ${kind}${error === undefined ? '' : `: ${String(error)}`}`)
    if (card.bridge === 'capture' && kind === 'removed') void capture?.close()
  },
})
await mirror.close()
