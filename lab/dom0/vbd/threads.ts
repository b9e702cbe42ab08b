/** Serves the disk `threads` of the scenario `vbd`, its rings spread over two threads besides this one. */
import { openFileStore, openHypervisor, serveVbd } from 'xenkit'

await using store = await openFileStore('threads.img')
await using hv = await openHypervisor()
const stop = new AbortController()
process.once('SIGTERM', () => stop.abort())
console.log(`pid ${process.pid}`)
await serveVbd(hv, {
  workers: 2,
  dataPath: 'persistent',
  store: ({ target }) => (target === 'threads' ? store : undefined),
  signal: stop.signal,
  onEvent: ({ kind, error }) => console.log(`${kind}${error === undefined ? '' : `: ${String(error)}`}`),
})
