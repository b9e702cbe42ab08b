/** The README's program with a store whose reads throw. */
import { openHypervisor, serveVbd } from 'xenkit'

await using hv = await openHypervisor()
await serveVbd(hv, {
  store: {
    sectors: 512,
    read() {
      throw new Error('the disk is on fire')
    },
  },
})
