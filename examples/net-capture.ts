// Captures what guests send and receive into a pcapng file, which Wireshark opens.
// On Xen, in dom0 or a driver domain:
//   npx tsx net-capture.ts guests.pcapng
// To see the frames as they come, name a pipe in place of the file:
//   mkfifo pipe && wireshark -k -i pipe & npx tsx net-capture.ts pipe
import { captureLink, openCapture, openHypervisor, openSwitch, serveVif } from 'xenkit'

const [path] = process.argv.slice(2)
if (path === undefined) throw new Error('usage: net-capture FILE')

await using hv = await openHypervisor()
await using net = openSwitch()
await using capture = await openCapture(path)
const stop = new AbortController()
process.once('SIGINT', () => stop.abort())
await serveVif(hv, {
  link: captureLink(net, capture),
  signal: stop.signal,
  onEvent: ({ kind, card, error }) => console.log(`${card.name}: ${kind}`, error ?? ''),
})
