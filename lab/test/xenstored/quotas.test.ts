/**
 * Disks of a driver domain under the quotas of Debian's xenstored, with default and with raised
 * values. Grants and events come from the simulated machine. Domain 0 and the guest use xenstored's
 * socket.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  openVbd,
  createMachine,
  type Disk,
  type Hypervisor,
  memoryStore,
  openXenstore,
  plugVbd,
  serveVbd,
  type SimMachine,
  unplugVbd,
  type VbdEvent,
  type XenstoreClient,
} from 'xenkit'
import { whyNoXenstored } from '../../src/xenstored/program.ts'
import { XenstoredProcess } from '../../src/xenstored/xenstored-process.ts'

const absent = await whyNoXenstored()
const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i)
/** Returns a disk's number in Xen's extended scheme; disk 0 is xvdq. */
const vdev = (disk: number): string => String(2 ** 28 + disk * 256)

const withXenstore = (hv: Hypervisor, xenstore: Hypervisor['xenstore']): Hypervisor => ({
  name: hv.name,
  domid: hv.domid,
  arena: hv.arena,
  loop: hv.loop,
  grants: hv.grants,
  evtchn: hv.evtchn,
  xenstore,
  close: () => hv.close(),
  [Symbol.asyncDispose]: () => hv.close(),
})

describe.skipIf(absent !== undefined)(`disks of a domain of Debian's xenstored`, () => {
  let xenstored: XenstoredProcess
  let machine: SimMachine
  let dom0: XenstoreClient
  let backend: Hypervisor
  let guest: Hypervisor
  let events: VbdEvent[]
  let listeners: Set<() => void>
  let served: Promise<void>

  beforeEach(async () => {
    xenstored = await XenstoredProcess.start()
    machine = createMachine({ ports: 512 })
    machine.createDomain()
    dom0 = await openXenstore(xenstored)
    backend = await domain()
    guest = withXenstore(await domain(), xenstored)
  })

  /** Creates a domain in both the simulated machine and xenstored, which owns its home. */
  async function domain(): Promise<Hypervisor> {
    const hv = machine.createDomain()
    const ring = await xenstored.createDomain(hv.domid)
    await dom0.introduceDomain({ domid: hv.domid, gfn: 1, port: 1 })
    const home = `/local/domain/${hv.domid}`
    await dom0.write(`${home}/domid`, String(hv.domid))
    for (const path of ['', '/error', '/device', '/backend']) {
      await dom0.mkdir(home + path)
      await dom0.setPerms(home + path, { owner: hv.domid, access: 'none', acl: [] })
    }
    return withXenstore(hv, ring)
  }

  function serve(): AbortController {
    const controller = new AbortController()
    events = []
    listeners = new Set()
    served = serveVbd(backend, {
      store: () => memoryStore(8),
      signal: controller.signal,
      onEvent(event) {
        events.push(event)
        for (const look of listeners) look()
      },
    })
    return controller
  }

  const kinds = (kind: VbdEvent['kind']) => events.filter((event) => event.kind === kind)
  const until = (holds: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (!holds()) return
        listeners.delete(look)
        resolve()
      }
      listeners.add(look)
      look()
    })
  const address = (disk: number) => ({
    frontendDomid: guest.domid,
    backendDomid: backend.domid,
    vdev: vdev(disk),
  })
  const plug = (disk: number): Promise<void> => plugVbd(dom0, { ...address(disk), readOnly: false })
  const attach = (disk: number): Promise<Disk> => openVbd(guest, { vdev: vdev(disk) })

  afterEach(async () => {
    dom0.close()
    await machine[Symbol.asyncDispose]()
    await xenstored.close()
  })

  test.each([
    [30, 'by default', 1000],
    [100, 'raised', 8000],
  ])(
    '%i disks are plugged and unplugged concurrently: quota %s',
    async (count, _, nodes) => {
      await dom0.control('quota', 'set', 'nodes', String(nodes))
      const service = serve()
      await Promise.all(numbers(count).map(plug))
      const disks: Disk[] = []
      // Attach one disk after another: each opens a connection, and xenstored's socket queues only
      // one.
      for (const disk of numbers(count)) disks.push(await attach(disk))
      expect(kinds('connected')).toHaveLength(count)
      await Promise.all(numbers(count).map((disk) => unplugVbd(dom0, address(disk))))
      await until(() => kinds('removed').length === count)
      expect(kinds('failed')).toEqual([])
      await Promise.all(disks.map((disk) => disk.close().catch(() => {})))
      service.abort()
      await served
    },
    120_000,
  )

  test('with too many disks, offered ones connect and others report the quota', async () => {
    const count = 60
    const service = serve()
    await Promise.all(numbers(count).map(plug))
    await until(() => kinds('offered').length + kinds('failed').length === count)
    const failed = kinds('failed')
    for (const { error } of failed) {
      expect(String(error)).toContain("over the domain's quota of nodes")
    }
    const refused = new Set(failed.map((event) => 'disk' in event && event.disk.devid))
    const living = numbers(count).filter((disk) => !refused.has(Number(vdev(disk))))
    expect(living.length).toBeGreaterThan(15)
    const disks: Disk[] = []
    for (const disk of living) disks.push(await attach(disk))
    expect(kinds('connected')).toHaveLength(living.length)
    expect(kinds('failed')).toHaveLength(failed.length)
    service.abort()
    await Promise.all(disks.map((disk) => disk.close().catch(() => {})))
    await served
  }, 120_000)
})
