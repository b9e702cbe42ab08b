/**
 * Drivers that throw, and devices that drivers report as failed: each such device closes with its
 * reason, and no other device is affected.
 */
import { XenError } from '@xenkit/hypervisor'
import { describe, expect, test } from 'vitest'
import { unplugDevice } from '../src/index.ts'
import { connect, type Rig, rig } from './rig.ts'

const aborted = { signal: AbortSignal.abort() }
const names = (calls: readonly string[]): string[] => calls.map((call) => call.split(' ')[0] ?? '')
const reason = (r: Rig, devid = 0): string =>
  `/local/domain/${r.backend.domid}/error/backend/toy/${r.guest.domid}/${devid}/error`

const fault = async (): Promise<never> => {
  throw new XenError('ERR_XEN_TOY', 'toy is broken')
}

describe.each([
  ['domain 0', {}],
  ['a driver domain', { driverDomain: true }],
] as const)('in %s', (_, where) => {
  test('offer throws when another server has taken the device: that is none of its business', async () => {
    await using r = await rig(where)
    const slow = await r.serve()
    let refuse = (): void => {}
    slow.driver.hooks.offer = () =>
      new Promise((_resolve, reject) => {
        refuse = () => reject(new Error('not mine'))
      })
    await r.plug()
    while (slow.driver.calls.length === 0) await r.turns(1)
    await r.serve()
    await connect(r)
    refuse()
    await r.turns(20)
    expect(await r.xs.exists(reason(r))).toBe(false)
    expect(slow.events).toEqual([])
    expect(names(slow.driver.calls)).toEqual(['offer', 'removed'])
    await unplugDevice(r.xs, r.address(), aborted)
  })

  test('offer throws: the device is closed for good, and never connected', async () => {
    await using r = await rig(where)
    const server = await r.serve()
    server.driver.hooks.offer = fault
    await r.plug(0)
    await r.until(`${r.path('back', 0)}/state`, '6')
    server.driver.hooks = {}
    await r.plug(1)
    await connect(r, 1)
    // The guest publishes rings although its device is closed, closes, and tries again from the
    // start.
    for (const state of ['3', '4', '5', '6', '1', '3']) {
      await r.guestXs.write(`${r.path('front', 0)}/state`, state)
      await r.turns(5)
    }
    expect(await r.xs.read(`${r.path('back', 0)}/state`)).toBe('6')
    expect(await r.xs.read(reason(r, 0))).toBe('toy is broken')
    expect(
      server.driver.calls.filter((call) => call.endsWith('/0')).map((call) => call.split(' ')[0]),
    ).toEqual(['offer', 'removed'])
    expect(
      server.events.filter(({ device }) => device.devid === 0).map(({ kind }) => kind),
    ).toEqual(['failed', 'closed', 'removed'])
    // After unplugging and plugging again the device is a new one, which is offered and connects.
    await unplugDevice(r.xs, r.address(0))
    await r.plug(0)
    await connect(r, 0)
    for (const devid of [0, 1]) await unplugDevice(r.xs, r.address(devid), aborted)
  })

  test('connect throws: closed with the reason, others go on, and to be had again', async () => {
    await using r = await rig(where)
    const server = await r.serve()
    await r.plug(1)
    await connect(r, 1)
    await r.plug(0)
    server.driver.hooks.connect = fault
    const front = await r.front(0)
    await front.publish({ 'ring-ref': '8' })
    await expect(front.connected()).rejects.toMatchObject({
      code: 'ERR_XEN_NEGOTIATION',
      details: { node: `${r.path('back', 0)}/state`, value: '5' },
    })
    await r.until(reason(r, 0), 'toy is broken')
    await front.close()
    server.driver.hooks = {}
    await connect(r, 0)
    expect(await r.xs.read(`${r.path('back', 1)}/state`)).toBe('4')
    expect(names(server.driver.calls)).toEqual(['offer', 'connect', 'offer', 'connect', 'connect'])
    for (const devid of [0, 1]) await unplugDevice(r.xs, r.address(devid), aborted)
  })

  test('close throws: closed all the same, with the reason, and to be had again', async () => {
    await using r = await rig(where)
    const server = await r.serve()
    await r.plug()
    const front = await connect(r)
    server.driver.hooks.close = fault
    await front.close()
    await r.until(reason(r), 'toy is broken')
    server.driver.hooks = {}
    await (await connect(r)).close()
    expect(server.events.map(({ kind }) => kind)).toEqual([
      'offered',
      'connected',
      'failed',
      'closed',
      'connected',
      'closed',
    ])
    await unplugDevice(r.xs, r.address())
  })

  test('the nodes of a connection can not be written: the connection is closed', async () => {
    await using r = await rig(where)
    const server = await r.serve()
    const { driver } = server
    const { connect: attach } = driver
    driver.connect = async (device) => ({
      ...(await attach.call(driver, device)),
      nodes: { '': 'no name for a node' },
    })
    await r.plug()
    const front = await r.front()
    await front.publish({})
    await expect(front.connected()).rejects.toMatchObject({ code: 'ERR_XEN_NEGOTIATION' })
    await front.close()
    expect(names(driver.calls)).toEqual(['offer', 'connect', 'close'])
    await unplugDevice(r.xs, r.address())
  })

  test('a fault reported by the driver closes that device, once however often', async () => {
    await using r = await rig(where)
    const server = await r.serve()
    await r.plug(0)
    await r.plug(1)
    const front = await connect(r, 0)
    await connect(r, 1)
    for (const device of server.driver.devices) {
      if (device.devid === 0) for (let i = 0; i < 3; i++) device.fail(new Error(`fault ${i}`))
    }
    await front.backendClosing()
    await front.close()
    expect(server.events.filter(({ kind }) => kind === 'failed')).toHaveLength(1)
    expect(await r.xs.read(reason(r))).toBe('unexpected: Error: fault 0')
    expect(await r.xs.read(`${r.path('back', 1)}/state`)).toBe('4')
    await connect(r, 0)
    for (const devid of [0, 1]) await unplugDevice(r.xs, r.address(devid), aborted)
  })

  test('a reason is as long as a node may be, whole characters of it', async () => {
    await using r = await rig(where)
    const server = await r.serve()
    server.driver.hooks.offer = () => Promise.reject(new Error('🙂'.repeat(1000)))
    await r.plug()
    const told = await r.xs.wait((view) => view.readOptional(reason(r)))
    expect(told).toBe(`unexpected: Error: ${'🙂'.repeat(251)}`)
    await unplugDevice(r.xs, r.address())
  })

  test('offered nodes can not be written: the driver hears that the device is gone', async () => {
    await using r = await rig(where)
    const server = await r.serve()
    server.driver.hooks.offer = async () => ({ '': 'no name for a node' })
    await r.plug()
    await server.event('failed')
    await server.stop()
    expect(server.driver.violations).toEqual([])
  })
})

const MADE_UP = ['', '9', '-1', '4\0', ' 4', '04', '4.0', 'x'.repeat(2000), '\u{1f4a9}']

describe('states that a guest makes up', () => {
  test('close the device that is connected, with the reason', async () => {
    await using r = await rig()
    const server = await r.serve()
    for (const [devid, state] of MADE_UP.entries()) {
      await r.plug(devid)
      await connect(r, devid)
      await r.guestXs.write(`${r.path('front', devid)}/state`, state)
      await r.until(`${r.path('back', devid)}/state`, '6')
      expect((await r.xs.read(reason(r, devid))).length).toBeLessThan(200)
      await unplugDevice(r.xs, r.address(devid))
    }
    expect(server.events.filter(({ kind }) => kind === 'failed')).toHaveLength(MADE_UP.length)
  })

  test('instead of connecting: told as well, and once however many follow', async () => {
    await using r = await rig()
    const server = await r.serve()
    await r.plug()
    await server.event('offered')
    for (const state of MADE_UP) {
      await r.guestXs.write(`${r.path('front')}/state`, state)
      await r.turns(10)
    }
    expect(await r.xs.read(`${r.path('back')}/state`)).toBe('6')
    expect(await r.xs.read(reason(r))).toContain('/state')
    expect(server.events.map(({ kind }) => kind)).toEqual(['offered', 'failed', 'closed'])
    await unplugDevice(r.xs, r.address())
  })
})
