// Gives each guest the network of this host by passt, without root and without a bridge. A guest
// gets its address by DHCP. Arguments are passed on to passt.
// On Xen, in dom0 or a driver domain; the host's port 8080 is port 80 of the guest:
//   npx tsx net-user.ts --tcp-ports 8080:80
import { openHypervisor, openPasst, serveVif } from 'xenkit'

await using hv = await openHypervisor()
await serveVif(hv, {
  link: openPasst({
    args: process.argv.slice(2),
    onEvent: ({ kind, card }) => console.log(`${card}: passt ${kind}`),
  }),
  onEvent: ({ kind, card, error }) => console.log(`${card.name}: ${kind}`, error ?? ''),
})
