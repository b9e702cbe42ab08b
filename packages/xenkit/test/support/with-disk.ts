/** A simulated guest with a disk that `serveVbd` serves. */
import { readdirSync } from 'node:fs'
import {
  type BlockStore,
  type Disk,
  type ServeVbdOptions,
  type VbdEvent,
  openVbd,
  createMachine,
  openXenstore,
  plugVbd,
  serveVbd,
} from '../../src/index.ts'

const openFiles = (): number => readdirSync('/proc/self/fd').length

/** Serves the store to a guest, passes the disk to `work`, and checks for leaks. */
export async function withDisk(
  o: Pick<ServeVbdOptions, 'dataPath'> & { readonly store: BlockStore },
  work: (disk: Disk, events: VbdEvent[]) => Promise<void>,
): Promise<void> {
  const before = openFiles()
  {
    await using machine = createMachine()
    const [dom0, guest] = [machine.createDomain(), machine.createDomain()]
    const stop = new AbortController()
    const events: VbdEvent[] = []
    const served = serveVbd(dom0, {
      ...o,
      signal: stop.signal,
      onEvent: (event) => events.push(event),
    })
    const xs = await openXenstore(dom0.xenstore)
    await plugVbd(xs, {
      frontendDomid: guest.domid,
      backendDomid: 0,
      vdev: 'xvda',
      readOnly: false,
      params: '',
    })
    xs.close()
    {
      await using disk = await openVbd(guest, { vdev: 'xvda' })
      await work(disk, events)
    }
    stop.abort()
    await served
  }
  // The engine closes its own descriptors some turns of the event loop later.
  while (openFiles() > before) await new Promise(setImmediate)
}

/** Wraps a store to count the calls of its own `read` and `write`. */
export function counted<Store extends BlockStore>(
  store: Store,
): { readonly store: Store; calls(): number } {
  let calls = 0
  const { read, write } = store
  store.read = (...args) => (calls++, read(...args))
  if (write) store.write = (...args) => (calls++, write(...args))
  return { store, calls: () => calls }
}
