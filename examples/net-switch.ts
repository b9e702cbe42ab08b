// Connects the network cards of all guests by a switch. A guest sends from the addresses that its
// configuration names, and from no others.
// On Xen, in dom0 or a driver domain:
//   npx tsx net-switch.ts
import { openHypervisor, openSwitch, serveVif } from 'xenkit'

await using hv = await openHypervisor()
await using net = openSwitch()
await serveVif(hv, {
  link: ({ ips }) => net.ports({ macs: 'card', ...(ips.length > 0 && { ips }) }),
  onEvent: ({ kind, card, error }) => console.log(`${card.name}: ${kind}`, error ?? ''),
})
