// Serves a disk that goes wrong: some calls are late, some fail, some writes are torn. It shows how
// a guest copes with that. The image itself isn't changed.
// On Xen, in dom0 or a driver domain:
//   npx tsx fault-disk.ts disk.img 0.01
// Anywhere else, to a simulated guest:
//   npx xenkit sim --writes 100 fault-disk.ts disk.img 0.01
import {
  faultyStore,
  openFileStore,
  openHypervisor,
  overlayStore,
  randomFaults,
  serveVbd,
  vdevName,
} from 'xenkit'

const [image, odds, seed = '1'] = process.argv.slice(2)
if (image === undefined || odds === undefined) {
  throw new Error('usage: fault-disk IMAGE ODDS [SEED]')
}

const faults = randomFaults({
  seed: Number(seed),
  errors: Number(odds),
  tornWrites: Number(odds),
  delays: 0.1,
  longestDelayMs: 20,
})
await using file = await openFileStore(image, { readOnly: true })
await using hv = await openHypervisor()
await serveVbd(hv, {
  store: () =>
    faultyStore(overlayStore(file), (call) => {
      const fault = faults(call)
      if (fault?.error) console.log(fault.error.message)
      return fault
    }),
  onEvent: ({ kind, disk }) => console.log(`${vdevName(disk.devid)}: ${kind}`),
})
