/**
 * Serves the card of the scenario `bench-net` whose bridge is br-ours: a TAP device on that bridge.
 */
import { openHypervisor, openTap, serveVif, warmUp } from 'xenkit'

await using hv = await openHypervisor()
await using _compiled = await warmUp(hv)
console.log('ready')
// Xen's script sets the interface up.
const tap = openTap({ up: false })
const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())
await serveVif(hv, {
  link: ({ bridge }) => (bridge === 'br-ours' ? tap : 'decline'),
  signal: stop.signal,
})
