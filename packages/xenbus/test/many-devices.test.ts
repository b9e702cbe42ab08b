/** Many devices: what an idle device costs, and that a removed device leaves nothing behind. */
import { expect, test } from 'vitest'
import { FrontendDevice, plugDevice, unplugDevice } from '../src/index.ts'
import { connect, rig, TYPE } from './rig.ts'

/** Allowance for timers of the test runner itself, far smaller than the number of devices. */
const RUNNERS = 5
const timers = (): number =>
  process.getActiveResourcesInfo().filter((name) => name === 'Timeout' || name === 'Immediate')
    .length

test('100 devices in a driver domain, with its quota of watches; a connected one costs no timer', async () => {
  await using r = await rig({ driverDomain: true })
  const server = await r.serve()
  await r.turns(3)
  const before = timers()
  const devids = Array.from({ length: 100 }, (_, devid) => devid)
  for (const devid of devids) {
    await r.plug(devid)
    await connect(r, devid)
  }
  await r.turns(3)
  expect(server.events.filter(({ kind }) => kind === 'connected')).toHaveLength(100)
  expect(timers()).toBeLessThanOrEqual(before + RUNNERS)
  for (const devid of devids) {
    await unplugDevice(r.xs, r.address(devid), { signal: AbortSignal.abort() })
  }
}, 60_000)

test('hundreds of devices come and go, some by force: nothing is left', async () => {
  await using r = await rig()
  const server = await r.serve()
  await r.turns(3)
  const before = timers()
  const nodes = (): Promise<string[]> => r.xs.list('/local/domain/0')
  const nodesBefore = await nodes()
  const removed = (): number => server.events.filter(({ kind }) => kind === 'removed').length
  for (let cycle = 0; cycle < 300; cycle++) {
    await r.plug()
    const front = await connect(r)
    if (cycle % 3 === 0) await unplugDevice(r.xs, r.address(), { signal: AbortSignal.abort() })
    else {
      const unplugged = unplugDevice(r.xs, r.address())
      await front.backendClosing()
      await front.close()
      await unplugged
    }
    while (removed() <= cycle) await r.turns(1)
  }
  expect(server.driver.calls.filter((call) => call.startsWith('connect'))).toHaveLength(300)
  expect(server.driver.violations).toEqual([])
  expect(await nodes()).toEqual(nodesBefore)
  expect(timers()).toBeLessThanOrEqual(before + RUNNERS)
}, 120_000)

test('guests come and go with their devices connected, whose directories the toolstack then removes', async () => {
  await using r = await rig()
  const server = await r.serve()
  for (let life = 0; life < 50; life++) {
    const guest = r.machine.createDomain()
    const address = { ...r.address(), frontendDomid: guest.domid }
    await plugDevice(r.xs, { ...address, frontend: {}, backend: {} })
    // The frontend uses domain 0's connection, because the guest's ends when the guest is
    // destroyed.
    const front = await FrontendDevice.open(r.xs, { domid: guest.domid, type: TYPE, devid: 0 })
    await front.publish({})
    await front.connected()
    r.machine.destroyDomain(guest.domid)
    await unplugDevice(r.xs, address)
  }
  while (server.events.filter(({ kind }) => kind === 'removed').length < 50) await r.turns(1)
  expect(server.driver.violations).toEqual([])
  expect(await r.xs.exists('/local/domain/0/backend')).toBe(false)
}, 60_000)
