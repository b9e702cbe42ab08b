/**
 * Serves the disks of the scenario `vbd`. A disk's target names its data path and its store, as in
 * `target=persistent:sparse`. Stores stay when a disk is detached, so a later disk may name the
 * same one. On each SIGUSR2 this prints the statistics of every disk as `stats N {"xvda": {...}}`,
 * where N counts the signals.
 */
import {
  type BlockStore,
  type DataPathKind,
  type ServedDisk,
  encryptedStore,
  faultyStore,
  memoryStore,
  openFileStore,
  openHypervisor,
  openNbdStore,
  overlayStore,
  serveVbd,
  sparseStore,
  throttledStore,
  vdevName,
} from 'xenkit'

const MiB = 2048

/** A store with a bad spot: requests that touch sector 4096 fail. */
const withBadSector = (base: BlockStore): BlockStore =>
  faultyStore(base, ({ sector, bytes }) =>
    sector <= 4096 && 4096 < sector + bytes / 512 ? { error: new Error('bad sector') } : undefined,
  )

/** Returns the store as one with sectors of 4096 bytes. */
const of4096 = ({ sectors, read, write, flush }: BlockStore): BlockStore => ({
  sectors,
  sectorSize: 4096,
  read,
  ...(write && { write }),
  ...(flush && { flush }),
})

const base = await openFileStore('base.img', { readOnly: true })
// Disposed of when the program ends, because an open connection would keep the program running.
await using nbd = await openNbdStore('nbd+unix:///?socket=nbd.sock', {
  onEvent: ({ kind }) => console.log(`nbd: ${kind}`),
})
const stores: Readonly<Record<string, BlockStore>> = {
  file: await openFileStore('file.img'),
  sparse: sparseStore(64 * MiB),
  memory: memoryStore(16 * MiB),
  base,
  overlay: overlayStore(base),
  '4096': of4096(await openFileStore('4096.img')),
  encrypted: encryptedStore(await openFileStore('encrypted.img'), {
    key: Uint8Array.from({ length: 64 }, (_, i) => i),
  }),
  throttled: throttledStore(memoryStore(16 * MiB), {
    bytes: { perSecond: 4 << 20, burst: 1 << 20 },
  }),
  faulty: withBadSector(memoryStore(16 * MiB)),
  nbd,
  spare: memoryStore(4 * MiB),
  medium: memoryStore(2 * MiB),
}

const disks = new Map<string, ServedDisk>()
await using hv = await openHypervisor()
const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())
let asked = 0
process.on('SIGUSR2', () =>
  console.log(
    `stats ${++asked} ${JSON.stringify(Object.fromEntries([...disks].map(([vdev, { stats }]) => [vdev, { ...stats, persistentGrants: stats.persistentGrants }])))}`,
  ),
)

const serve = (dataPath: DataPathKind): Promise<void> =>
  serveVbd(hv, {
    dataPath,
    store: ({ target }) => {
      const [path, name = ''] = target.split(':')
      return path === dataPath ? (stores[name] ?? 'decline') : 'decline'
    },
    signal: stop.signal,
    onEvent({ kind, disk, error }) {
      const vdev = vdevName(disk.devid)
      disks.set(vdev, disk)
      console.log(
        `${vdev} of domain ${disk.frontendDomid}: ${kind}${error === undefined ? '' : `: ${String(error)}`}`,
      )
    },
  })
console.log(`pid ${process.pid}`)
await Promise.all([serve('copy'), serve('map'), serve('persistent')])
