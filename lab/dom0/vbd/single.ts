/**
 * Serves one disk over persistent grants: `single TARGET [WORKERS]`. The image is TARGET.img. The
 * disk's queues run in WORKERS threads in addition to the main one.
 */
import { openFileStore, openHypervisor, openWorkers, serveVbd } from 'xenkit'

const [name = '', count = '0'] = process.argv.slice(2)
await using store = await openFileStore(`${name}.img`)
await using hv = await openHypervisor()
await using workers = await openWorkers(hv, { count: Number(count) })
const stop = new AbortController()
process.once('SIGTERM', () => stop.abort())
console.log(`pid ${process.pid}`)
await serveVbd(hv, {
  workers,
  dataPath: 'persistent',
  store: ({ target }) => (target === name ? store : 'decline'),
  signal: stop.signal,
  onEvent: ({ kind, error }) =>
    console.log(`${kind}${error === undefined ? '' : `: ${String(error)}`}`),
})
