/** Serves the disks of the scenario `bench`: one image per data path, named after it. */
import { type DataPathKind, openFileStore, openHypervisor, serveVbd, warmUp } from 'xenkit'

await using hv = await openHypervisor()
await using _compiled = await warmUp(hv)
console.log('ready')
const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())

async function serve(dataPath: DataPathKind): Promise<void> {
  await using store = await openFileStore(`/tmp/${dataPath}.img`)
  await serveVbd(hv, {
    dataPath,
    backendTypes: ['vbd3'],
    store: ({ target }) => (target === store.path ? store : 'decline'),
    signal: stop.signal,
  })
}
await Promise.all([serve('persistent'), serve('copy')])
