// A firewall for guests: they may open web pages and look up names, and do nothing else.
// On Xen, in dom0 or a driver domain:
//   npx tsx net-firewall.ts
import { type Packet, filterLink, openHypervisor, openSwitch, serveVif } from 'xenkit'

const ARP = 0x0806
/** Ports of servers that guests may use, by the number of the protocol: TCP and UDP. */
const SERVERS = new Map([
  [6, [80, 443]],
  [17, [53]],
])

/** Called for each frame, both ways. Its headers are decoded when they are asked for. */
function isAllowed(packet: Packet): boolean {
  if (packet.etherType === ARP) return true
  const { isWellFormed, protocol = 0, sourcePort = 0, destinationPort = 0 } = packet
  const ports = SERVERS.get(protocol) ?? []
  return isWellFormed && (ports.includes(sourcePort) || ports.includes(destinationPort))
}

await using hv = await openHypervisor()
await using net = openSwitch()
await serveVif(hv, {
  link: filterLink(net, isAllowed),
  onEvent: ({ kind, card, error }) => console.log(`${card.name}: ${kind}`, error ?? ''),
})
