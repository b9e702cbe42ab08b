/**
 * Cleaning up a frontend whose opening fails or whose backend never closes: nothing stays open, and
 * the right error is reported.
 */
import type { GrantMapping, Hypervisor } from '@xenkit/hypervisor'
import { type SimMachine, createMachine } from '@xenkit/sim'
import { XenbusState } from '@xenkit/wire'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openVbd, plugVbd } from '../../src/index.ts'

const { InitWait, Initialised, Connected, Closing, Closed } = XenbusState

let machine: SimMachine
let dom0: Hypervisor
let guest: Hypervisor
let xs: XenstoreClient
let back: string
let front: string
/** Number of the guest's connections to xenstored. */
let connections: number

beforeEach(async () => {
  machine = createMachine()
  const domains = [machine.createDomain(), machine.createDomain()] as const
  dom0 = domains[0]
  guest = counted(domains[1])
  xs = await openXenstore(dom0.xenstore)
  const address = { frontendDomid: guest.domid, backendDomid: dom0.domid, vdev: 'xvda' }
  await plugVbd(xs, { ...address, readOnly: false })
  back = `/local/domain/0/backend/vbd/${guest.domid}/51712`
  front = `/local/domain/${guest.domid}/device/vbd/51712`
})
afterEach(async () => {
  xs.close()
  await machine[Symbol.asyncDispose]()
})

function counted(hv: Hypervisor): Hypervisor {
  connections = 0
  const xenstore: Hypervisor['xenstore'] = {
    async connect(receiver) {
      const stream = await hv.xenstore.connect(receiver)
      connections++
      return { write: (bytes) => stream.write(bytes), close: () => (connections--, stream.close()) }
    },
  }
  const { name, domid, arena, loop, grants, evtchn } = hv
  const close = (): Promise<void> => hv.close()
  return { name, domid, arena, loop, grants, evtchn, xenstore, close, [Symbol.asyncDispose]: close }
}

/** A domain whose ports can't be unbound, as a kernel may refuse. */
const unbindable = (hv: Hypervisor): Hypervisor => ({
  ...hv,
  evtchn: {
    ...hv.evtchn,
    bindUnbound(o, onEvent) {
      const binding = hv.evtchn.bindUnbound(o, onEvent)
      const close = (): void => {
        binding.close()
        throw new Error("can't be unbound")
      }
      return { ...binding, port: binding.port, close }
    },
  },
})

const put = (state: number): Promise<void> => xs.write(`${back}/state`, String(state))
const putNodes = async (nodes: object): Promise<void> => {
  for (const [name, value] of Object.entries(nodes)) {
    await xs.write(`${back}/${name}`, String(value))
  }
}
const frontend = (state: number): Promise<true> =>
  xs.wait(
    async (view) => (await view.readOptional(`${front}/state`)) === String(state) || undefined,
  )

/** A backend that maps the ring and then does nothing. */
async function connectBackend(): Promise<GrantMapping> {
  await put(InitWait)
  await frontend(Initialised)
  const gref = Number(await xs.read(`${front}/ring-ref`))
  const mapping = dom0.grants.map([{ domid: guest.domid, gref }], { writable: true })
  await putNodes({ sectors: 64 })
  await put(Connected)
  return mapping
}

test('opening fails, then closing: the first error is thrown, nothing stays open', async () => {
  const attaching = openVbd(unbindable(guest), { vdev: 'xvda', queues: 2 })
  attaching.catch(() => {})
  await putNodes({ 'multi-queue-max-queues': 2 })
  await put(InitWait)
  await frontend(Initialised)
  await put(Closing)
  await frontend(Closing)
  await put(Closed)
  const error = expect.objectContaining({ message: "can't be unbound" })
  await expect(attaching).rejects.toMatchObject({
    code: 'ERR_XEN_NEGOTIATION',
    suppressed: [error, error],
  })
  expect(connections).toBe(0)
  await frontend(Closed)
})

test('opening is aborted: a backend that has mapped the rings is asked to close', async () => {
  const enough = new AbortController()
  const attaching = openVbd(guest, { vdev: 'xvda', signal: enough.signal })
  attaching.catch(() => {})
  await put(InitWait)
  await frontend(Initialised)
  const gref = Number(await xs.read(`${front}/ring-ref`))
  const mapping = dom0.grants.map([{ domid: guest.domid, gref }], { writable: true })
  enough.abort(new Error('enough'))
  await frontend(Closing)
  await put(Closing)
  await frontend(Closed)
  mapping.close()
  await put(Closed)
  await expect(attaching).rejects.toThrow('enough')
  expect(connections).toBe(0)
})

test.each([
  [
    'at first',
    async (disk: Awaited<ReturnType<typeof openVbd>>, signal: AbortSignal) =>
      disk.close({ signal }),
  ],
  [
    'after a call that waits without end',
    async (disk: Awaited<ReturnType<typeof openVbd>>, signal: AbortSignal) => {
      const waiting = disk.close()
      waiting.catch(() => {})
      await disk.close({ signal }).catch(() => {})
      await waiting
    },
  ],
])('a backend never closes: close ends by its signal, %s', async (_, close) => {
  const connecting = connectBackend()
  const disk = await openVbd(guest, { vdev: 'xvda' })
  const mapping = await connecting
  const late = new AbortController()
  const closing = close(disk, late.signal)
  closing.catch(() => {})
  await frontend(Closing)
  late.abort(new Error('late'))
  // The error about the page that is still mapped is added to the first one, and doesn't replace
  // it.
  const suppressed = [expect.objectContaining({ code: 'ERR_XEN_GRANT' })]
  await expect(closing).rejects.toMatchObject({ message: 'late', suppressed })
  expect(connections).toBe(0)
  await frontend(Closed)
  await expect(disk.close()).rejects.toThrow('late')
  mapping.close()
  await guest.close()
})
