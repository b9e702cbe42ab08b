// A device of your own, both ends: the backend calculates for its guest. Needs no Xen:
//   npx tsx calculator-device.ts
// docs/write-a-device.md walks through it.
import { type Hypervisor, createMachine, openXenstore } from 'xenkit'
import {
  FrontRing,
  FrontendDevice,
  connectMessages,
  cstruct,
  defineNodes,
  i16,
  i32,
  openRing,
  padding,
  plugDevice,
  ringMessages,
  serveDevices,
  u32,
  u8,
  unplugDevice,
} from 'xenkit/device'

// The protocol: what both ends agree on, as a C header would say it.

const TYPE = 'calculator'
const OPERATION = { ADD: 0, DIVIDE: 1 } as const
const STATUS = { OKAY: 0, ERROR: -1, NOT_SUPPORTED: -2 } as const

const messages = ringMessages({
  request: cstruct('calculator_request', {
    id: u32, // comes back with the response
    operation: u8,
    _pad: padding(3),
    left: i32,
    right: i32,
  }),
  response: cstruct('calculator_response', {
    id: u32,
    status: i16,
    _pad: padding(2),
    result: i32,
  }),
})

const backendNodes = defineNodes({
  'feature-divide': {
    type: 'flag',
    default: false,
    writer: 'backend',
    meaning: 'accepts DIVIDE',
  },
})

// The backend: serves every calculator that a toolstack plugs, until the signal aborts.

export async function serveCalculators(
  hv: Hypervisor,
  o: { readonly signal: AbortSignal; readonly divides: boolean },
): Promise<void> {
  await serveDevices(hv, o, {
    type: TYPE,
    driver: (context) => ({
      offer: async () => backendNodes.format({ 'feature-divide': o.divides }),
      connect: (device) =>
        connectMessages(hv, device, {
          ...context,
          messages,
          answer({ id, operation, left, right }) {
            if (operation === OPERATION.ADD) {
              return { id, status: STATUS.OKAY, result: (left + right) | 0 }
            }
            if (operation === OPERATION.DIVIDE && o.divides) {
              if (right === 0) return { id, status: STATUS.ERROR, result: 0 }
              return { id, status: STATUS.OKAY, result: (left / right) | 0 }
            }
            return { id, status: STATUS.NOT_SUPPORTED, result: 0 }
          },
        }),
    }),
    onEvent(event) {
      const { frontendDomid, devid } = event.device
      console.log(`backend: ${TYPE} ${devid} of domain ${frontendDomid} ${event.kind}`)
      if ('error' in event) console.error(event.error)
    },
  })
}

// The frontend: asks for several results at once.

type Calculation = readonly [left: number, operation: '+' | '/', right: number]

export async function calculate(
  hv: Hypervisor,
  devid: number,
  calculations: readonly Calculation[],
): Promise<void> {
  using xs = await openXenstore(hv.xenstore)
  const device = await FrontendDevice.open(xs, { domid: hv.domid, type: TYPE, devid })
  const offer = await backendNodes.read(xs, device.backendPath)
  console.log(`guest: the backend ${offer['feature-divide'] ? 'divides' : "doesn't divide"}`)
  using opened = openRing(hv, {
    domid: device.backendDomid,
    init: (bytes) => FrontRing.init({ bytes, slotSize: messages.slotSize }),
  })
  await device.publish(opened.nodes)
  await device.connected()

  const { ring, bytes, channel } = opened
  for (const [id, [left, sign, right]] of calculations.entries()) {
    const operation = sign === '+' ? OPERATION.ADD : OPERATION.DIVIDE
    messages.request.encode({ id, operation, left, right }, bytes, ring.reserveRequest())
  }
  if (ring.publish()) channel.notify()

  for (let answered = 0; answered < calculations.length;) {
    const count = ring.drain(ring.size)
    for (let i = 0; i < count; i++) {
      const response = messages.response.decode(new Uint8Array(ring.image), ring.messageAt(i))
      const text = calculations[response.id]?.join(' ') ?? 'what nobody asked'
      const okay = response.status === STATUS.OKAY
      console.log(`guest: ${text} = ${okay ? response.result : `status ${response.status}`}`)
    }
    answered += count
    if (count === 0 && !ring.finalCheck()) await channel.wait()
  }
  await device.close() // the backend has unmapped the ring: its page may be revoked
}

// A simulated machine: domain 0 serves, a guest uses the device, then everything is closed.

await using machine = createMachine()
const dom0 = machine.createDomain()
const guest = machine.createDomain()
const stop = new AbortController()
const served = serveCalculators(dom0, { signal: stop.signal, divides: true })

using xs = await openXenstore(dom0.xenstore)
const address = { type: TYPE, devid: 0, frontendDomid: guest.domid, backendDomid: dom0.domid }
await plugDevice(xs, { ...address, frontend: {}, backend: {} })
await calculate(guest, 0, [
  [2, '+', 40],
  [84, '/', 2],
  [1, '/', 0],
])
await unplugDevice(xs, address)
stop.abort()
await served
xs.close()
machine.assertQuiescent()
console.log('nothing is left open')
