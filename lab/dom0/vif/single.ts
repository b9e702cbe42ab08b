/** Serves the cards whose bridge is `single`: a TAP device each, with dom0's address 10.4.0.1. */
import { execFileSync } from 'node:child_process'
import { openHypervisor, openTap, serveVif } from 'xenkit'

await using hv = await openHypervisor()
const tap = openTap()
const stop = new AbortController()
process.once('SIGTERM', () => stop.abort())
let removed = 0
console.log('ready')
await serveVif(hv, {
  link: ({ bridge }) => (bridge === 'single' ? tap : 'decline'),
  signal: stop.signal,
  onEvent({ kind, card, error }) {
    if (kind === 'offered') {
      execFileSync('ip', ['addr', 'add', '10.4.0.1/24', 'dev', card.name])
    }
    if (kind === 'removed') removed++
    console.log(`${kind} ${removed}${error === undefined ? '' : `: ${String(error)}`}`)
  },
})
