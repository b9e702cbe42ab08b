/**
 * The nodes by which a backend or its hotplug script tells the toolstack that a disk is ready, or
 * isn't.
 */
import { describe, expect, test } from 'vitest'
import { errorPath, plugDevice, unplugDevice } from '../src/index.ts'
import { connect, rig, type Rig } from './rig.ts'

/** Path under which packages/xenkit/hotplug installs its script. */
const REPORTING = '/etc/xen/scripts/xenkit-hotplug'
const PREPARING = '/etc/xen/scripts/block'
const plug = (r: Rig, script?: string): Promise<void> =>
  plugDevice(r.xs, {
    ...r.address(),
    frontend: {},
    backend: script === undefined ? {} : { script },
  })
const own = (r: Rig, node: string): Promise<string | undefined> =>
  r.xs.readOptional(`${r.path('back')}/${node}`)
const refuse = async (): Promise<never> => {
  throw new TypeError('no such disk')
}

test.each([undefined, '/bin/true', '/usr/bin/true', REPORTING])(
  'script %s: the backend says connected, no later than InitWait',
  async (script) => {
    await using r = await rig()
    await r.serve()
    await plug(r, script)
    await r.until(`${r.path('back')}/state`, '2')
    expect(await own(r, 'hotplug-status')).toBe('connected')
    await connect(r)
  },
)

describe('a script that prepares what is served', () => {
  test('is waited for, though the frontend has published its rings', async () => {
    await using r = await rig()
    const server = await r.serve()
    await plug(r, PREPARING)
    const front = await r.front()
    await front.publish({})
    await r.turns(20)
    expect(await own(r, 'state')).toBe('2')
    await r.xs.write(`${r.path('back')}/hotplug-status`, 'connected')
    await front.connected()
    expect(server.driver.calls).toEqual([`offer ${r.guest.domid}/0`, `connect ${r.guest.domid}/0`])
  })

  test('and fails: the device is never connected, and can be taken away', async () => {
    await using r = await rig()
    const server = await r.serve()
    await plug(r, PREPARING)
    const front = await r.front()
    await front.publish({})
    await r.xs.write(`${r.path('back')}/hotplug-status`, 'error')
    await r.turns(20)
    expect(await own(r, 'state')).toBe('2')
    const unplugged = unplugDevice(r.xs, r.address())
    await front.backendClosing()
    await front.close()
    await unplugged
    await server.event('removed')
    expect(server.driver.calls.filter((call) => call.startsWith('connect'))).toEqual([])
  })
})

describe('a device that the driver refuses', () => {
  test('stays in InitWait for a script that reports it, whatever the frontend does', async () => {
    await using r = await rig()
    const server = await r.serve()
    server.driver.hooks.offer = refuse
    await plug(r, REPORTING)
    await r.until(`${r.path('back')}/state`, '2')
    expect(await own(r, 'hotplug-status')).toBe('error')
    expect(await own(r, 'hotplug-error')).toMatch(/no such disk/)
    const front = await r.front()
    await front.publish({})
    await r.turns(20)
    expect(await own(r, 'state')).toBe('2')
    expect(server.events.map(({ kind }) => kind)).toEqual(['failed'])
    expect(await r.xs.read(errorPath(r.address()))).toMatch(/no such disk/)
    // libxl unplugs a device whose script has reported an error.
    const unplugged = unplugDevice(r.xs, r.address())
    await front.backendClosing()
    await front.close()
    await unplugged
    await server.event('removed')
    expect(server.driver.violations).toEqual([])
  })

  test.each([undefined, '/bin/true', PREPARING])(
    'is closed at once with script %s',
    async (script) => {
      await using r = await rig()
      const server = await r.serve()
      server.driver.hooks.offer = refuse
      await plug(r, script)
      await r.until(`${r.path('back')}/state`, '5')
      expect(await own(r, 'hotplug-error')).toMatch(/no such disk/)
      await server.event('failed')
      await unplugDevice(r.xs, r.address(), { signal: AbortSignal.abort() })
    },
  )

  test('does not hold up a server that stops', async () => {
    await using r = await rig()
    const server = await r.serve()
    server.driver.hooks.offer = refuse
    await plug(r, REPORTING)
    await server.event('failed')
    await r.xs.rm(r.path('front'))
    await server.stop()
    expect(server.driver.violations).toEqual([])
  })
})

describe('the directory of a device that is gone for good', () => {
  const takeOffline = (r: Rig): Promise<void> =>
    r.xs.transaction(async (view) => {
      await view.write(`${r.path('back')}/online`, '0')
      await view.write(`${r.path('back')}/state`, '5')
    })

  test('in a driver domain the backend removes it, which libxl waits for', async () => {
    await using r = await rig({ driverDomain: true })
    await r.serve()
    await plug(r, '/bin/true')
    const front = await connect(r)
    await takeOffline(r)
    await front.close()
    await r.until(`${r.path('back')}/online`, undefined)
    expect(await r.xs.exists(r.path('back'))).toBe(false)
  })

  test.each([
    ['in domain 0', false, '/bin/true'],
    ['where xl devd runs its script', true, PREPARING],
  ])("%s it is the toolstack's", async (_, driverDomain, script) => {
    await using r = await rig({ driverDomain })
    const server = await r.serve()
    await plug(r, script)
    await r.xs.write(`${r.path('back')}/hotplug-status`, 'connected')
    const front = await connect(r)
    await takeOffline(r)
    await front.close()
    await server.event('removed')
    await r.turns(5)
    expect(await own(r, 'state')).toBe('6')
  })
})
