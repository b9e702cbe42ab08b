/**
 * Servers of a device type: discovery of devices, competition for them, deaths of guests, the
 * server's end.
 */
import { XenstoreError } from '@xenkit/hypervisor'
import { openXenstore } from '@xenkit/xenstore-client'
import { describe, expect, test, vi } from 'vitest'
import { FrontendDevice, plugDevice, serveBackends, unplugDevice } from '../src/index.ts'
import { RecordingDriver } from './recording-driver.ts'
import { connect, rig, TYPE } from './rig.ts'

const aborted = { signal: AbortSignal.abort() }
const domains = [
  ['domain 0', {}],
  ['a driver domain', { driverDomain: true }],
] as const

describe.each(domains)('in %s', (_, where) => {
  test('a device is offered, connected, closed and offered again', async () => {
    await using r = await rig(where)
    const server = await r.serve()
    await r.plug()
    for (let life = 0; life < 2; life++) {
      const front = await connect(r)
      expect(await r.guestXs.read(`${front.backendPath}/feature-test`)).toBe('1')
      expect(await r.guestXs.read(`${front.backendPath}/sectors`)).toBe('8')
      await front.close()
    }
    const id = `${r.guest.domid}/0`
    expect(server.driver.calls).toEqual([
      `offer ${id}`,
      ...[1, 2].flatMap(() => [`connect ${id}`, `close ${id}`]),
    ])
  })

  test('devices that were there before the server', async () => {
    await using r = await rig(where)
    for (const devid of [0, 1, 51712]) await r.plug(devid)
    const server = await r.serve()
    await Promise.all([0, 1, 51712].map((devid) => connect(r, devid)))
    expect(
      server.events
        .filter(({ kind }) => kind === 'connected')
        .map(({ device }) => device.devid)
        .toSorted((a, b) => a - b),
    ).toEqual([0, 1, 51712])
    await Promise.all([0, 1, 51712].map((devid) => unplugDevice(r.xs, r.address(devid), aborted)))
  })

  test('the guest is destroyed: its connection closes, others of other guests go on', async () => {
    await using r = await rig(where)
    const server = await r.serve()
    const other = r.machine.createDomain()
    using otherXs = await openXenstore(other.xenstore)
    await r.plug()
    await plugDevice(r.xs, {
      ...r.address(),
      frontendDomid: other.domid,
      frontend: {},
      backend: {},
    })
    await connect(r)
    const front = await FrontendDevice.open(otherXs, { domid: other.domid, type: TYPE, devid: 0 })
    await front.publish({})
    await front.connected()
    r.machine.destroyDomain(r.guest.domid)
    await r.until(`${r.path('back')}/state`, '6')
    expect(server.driver.calls).toContain(`close ${r.guest.domid}/0`)
    expect(server.driver.calls).not.toContain(`close ${other.domid}/0`)
    expect(server.events.filter(({ kind }) => kind === 'failed')).toEqual([])
    await unplugDevice(r.xs, r.address())
    await front.close()
  })

  test("the frontend's directory vanishes: the device closes without a fault", async () => {
    await using r = await rig(where)
    const server = await r.serve()
    await r.plug()
    await connect(r)
    await r.xs.rm(r.path('front'))
    await r.until(`${r.path('back')}/state`, '6')
    expect(server.events.map(({ kind }) => kind)).toEqual(['offered', 'connected', 'closed'])
  })

  test('a guest that hides its state is as good as gone', async () => {
    await using r = await rig(where)
    const server = await r.serve()
    await r.plug()
    await connect(r)
    await r.guestXs.setPerms(`${r.path('front')}/state`, {
      owner: r.guest.domid,
      access: 'none',
      acl: [],
    })
    // Removing the hidden state causes no event in a driver domain, which can't read it. Domain 0
    // can.
    await r.guestXs.rm(`${r.path('front')}/state`)
    await r.xs.write(`${r.path('back')}/poke`, '1')
    await unplugDevice(r.xs, r.address())
    expect(server.events.filter(({ kind }) => kind === 'failed')).toEqual([])
  })

  test('removed and plugged again before the server looked: a new device, offered as such', async () => {
    await using r = await rig(where)
    const server = await r.serve()
    await r.plug()
    await connect(r)
    for (let life = 0; life < 5; life++) {
      await unplugDevice(r.xs, r.address(), aborted)
      await r.plug()
      const front = await connect(r)
      expect(await r.guestXs.read(`${front.backendPath}/feature-test`)).toBe('1')
    }
    // Removed and created again in one transaction, so no reader sees the device missing.
    await r.xs.transaction(async (view) => {
      await view.rm(`${r.path('back')}`)
      for (const [name, value] of [
        ['state', '1'],
        ['online', '1'],
        ['params', 'another.img'],
      ] as const) {
        await view.write(`${r.path('back')}/${name}`, value)
      }
      await view.setPerms(r.path('back'), {
        owner: r.backend.domid,
        access: 'none',
        acl: [{ domid: r.guest.domid, access: 'read' }],
      })
      for (const name of ['state', 'online', 'params']) {
        await view.setPerms(`${r.path('back')}/${name}`, {
          owner: r.backend.domid,
          access: 'none',
          acl: [{ domid: r.guest.domid, access: 'read' }],
        })
      }
      await view.write(`${r.path('front')}/state`, '1')
    })
    await r.until(`${r.path('back')}/feature-test`, '1')
    await connect(r)
    expect(server.driver.calls.filter((call) => call.startsWith('offer'))).toHaveLength(7)
    expect(server.events.filter(({ kind }) => kind === 'removed')).toHaveLength(6)
    await unplugDevice(r.xs, r.address(), aborted)
  })

  test('removed while the driver connects: the directory stays gone', async () => {
    await using r = await rig(where)
    const server = await r.serve()
    server.driver.hooks.connect = async () => unplugDevice(r.xs, r.address(), aborted)
    await r.plug()
    const front = await r.front()
    await front.publish({})
    await server.event('removed')
    expect(await r.xs.exists(r.path('back'))).toBe(false)
    expect(server.driver.calls.map((call) => call.split(' ')[0])).toEqual([
      'offer',
      'connect',
      'close',
      'removed',
    ])
  })

  test('unplugged while the driver connects: the request to close is not lost', async () => {
    await using r = await rig(where)
    const server = await r.serve()
    let unplugged: Promise<void> | undefined
    server.driver.hooks.connect = async () => {
      unplugged = unplugDevice(r.xs, r.address())
      await r.until(`${r.path('back')}/state`, '5')
    }
    await r.plug()
    const front = await r.front()
    await front.publish({})
    // From here on the frontend watches, when the driver's Connected has overwritten Closing
    // already.
    await server.event('connected')
    await front.backendClosing()
    await front.close()
    await unplugged
    await server.event('removed')
    expect(await r.xs.exists(r.path('back'))).toBe(false)
  })
})

describe('several servers', () => {
  test('one device: exactly one gets it, and the next one when that has gone', async () => {
    await using r = await rig()
    const servers = await Promise.all(Array.from({ length: 4 }, () => r.serve()))
    const owners = (): number[] =>
      servers.flatMap(({ events }, i) => (events.some(({ kind }) => kind === 'offered') ? [i] : []))
    for (let life = 0; life < 4; life++) {
      for (const { events } of servers) events.length = 0
      await r.plug()
      const front = await connect(r)
      expect(owners()).toHaveLength(1)
      await front.close()
      await unplugDevice(r.xs, r.address())
    }
    for (const server of servers) await server.stop()
    expect(servers.flatMap(({ driver }) => driver.violations)).toEqual([])
  })

  test("a device that one declines is another's", async () => {
    await using r = await rig()
    const [declining, taking] = [await r.serve(), await r.serve()]
    declining.driver.hooks.offer = async () => undefined
    await r.plug()
    await connect(r)
    await taking.event('connected')
    expect(declining.driver.calls).not.toContain(`removed ${r.guest.domid}/0`)
    await unplugDevice(r.xs, r.address(), aborted)
    await Promise.all([declining.stop(), taking.stop()])
    expect([...declining.driver.violations, ...taking.driver.violations]).toEqual([])
  })

  test('removed and plugged again while its server still settles: another one takes it and keeps it', async () => {
    await using r = await rig()
    const slow = await r.serve()
    await r.plug()
    await connect(r)
    let settle: (() => void) | undefined
    slow.driver.hooks.close = () =>
      new Promise((resolve) => {
        settle = resolve
      })
    await unplugDevice(r.xs, r.address(), aborted)
    await vi.waitUntil(() => settle, { interval: 1 })
    // The second server is another program's. It has its own ledger, because the first server's
    // connection isn't closed yet.
    using client = await openXenstore(r.dom0.xenstore)
    const driver = new RecordingDriver()
    const stop = new AbortController()
    const served = serveBackends(client, { domid: 0, type: TYPE, driver, signal: stop.signal })
    await r.plug()
    const front = await connect(r)
    settle?.()
    await slow.event('removed')
    await r.turns(20)
    expect(await r.xs.read(`${r.path('back')}/state`)).toBe('4')
    expect(slow.driver.calls.filter((call) => call.startsWith('connect'))).toHaveLength(1)
    const unplugged = unplugDevice(r.xs, r.address())
    await front.close()
    await unplugged
    stop.abort()
    await served
    expect(driver.violations).toEqual([])
  })
})

describe('discovery', () => {
  test('what is no device is left alone', async () => {
    await using r = await rig()
    const server = await r.serve()
    const root = `/local/domain/0/backend/${TYPE}`
    for (const name of [
      'x/0',
      '1/x',
      '007/0',
      '1/00',
      '32752/0',
      '99999/0',
      '1/4294967296',
      '9999999999/1',
      '-1/0',
    ]) {
      await r.xs.write(`${root}/${name}/online`, '1')
      await r.xs.write(`${root}/${name}/state`, '1')
    }
    await r.plug()
    await connect(r)
    // Whenever any domain is destroyed, the server checks all devices again.
    r.machine.destroyDomain(r.machine.createDomain().domid)
    r.machine.destroyDomain(r.guest.domid)
    await r.until(`${r.path('back')}/state`, '6')
    expect(server.driver.calls.filter((call) => !call.endsWith(` ${r.guest.domid}/0`))).toEqual([])
    await r.xs.rm(root)
    await server.event('removed')
  })

  test('a state of its own that makes no sense is put right', async () => {
    await using r = await rig()
    const server = await r.serve()
    await r.plug()
    await server.event('offered')
    await r.xs.write(`${r.path('back')}/state`, 'banana')
    await r.until(`${r.path('back')}/state`, '2')
    await connect(r)
    expect(server.events.filter(({ kind }) => kind === 'failed')).toEqual([])
    await unplugDevice(r.xs, r.address(), aborted)
  })
})

describe('the end of a service', () => {
  test('an aborted signal: ends before it begins', async () => {
    await using r = await rig()
    await r.plug()
    const driver = new RecordingDriver()
    await serveBackends(r.xs, { domid: 0, type: TYPE, driver, ...aborted })
    expect(driver.calls).toEqual([])
  })

  test('asks frontends to let go, and waits for them', async () => {
    await using r = await rig()
    const server = await r.serve()
    await r.plug()
    const front = await connect(r)
    const stopped = server.stop()
    await front.backendClosing()
    expect(server.driver.calls).not.toContain(`close ${r.guest.domid}/0`)
    await front.close()
    await stopped
    expect(server.driver.violations).toEqual([])
  })

  test('a deaf frontend is waited for five seconds and no longer; no timer stays', async () => {
    await using r = await rig()
    const server = await r.serve()
    await r.plug(0)
    await r.plug(1)
    await connect(r, 0)
    await server.event('offered', 1)
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      let over = false
      const stopped = server.stop().then(() => {
        over = true
      })
      await server.event('removed', 1)
      await vi.advanceTimersByTimeAsync(4_999)
      await r.turns(20)
      expect(over).toBe(false)
      await vi.advanceTimersByTimeAsync(1)
      await stopped
      expect(vi.getTimerCount()).toBe(0)
      expect(await r.xs.read(`${r.path('back', 0)}/state`)).toBe('6')
      expect(server.driver.violations).toEqual([])
    } finally {
      vi.useRealTimers()
    }
  })

  test.each([
    ['takes', {}],
    ['declines', undefined],
  ])(
    'while a driver considers an offer that it then %s: the device is left for others',
    async (_, nodes) => {
      await using r = await rig()
      const server = await r.serve()
      let answer: (() => void) | undefined
      server.driver.hooks.offer = () =>
        new Promise((resolve) => {
          answer = () => resolve(nodes)
        })
      await r.plug()
      await vi.waitUntil(() => answer, { interval: 1 })
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
      try {
        const stopped = server.stop()
        await r.turns(10)
        answer?.()
        await stopped
        expect(vi.getTimerCount()).toBe(0)
      } finally {
        vi.useRealTimers()
      }
      expect(await r.xs.read(`${r.path('back')}/state`)).toBe('1')
      expect(server.driver.violations).toEqual([])
      await r.serve()
      await connect(r)
      await unplugDevice(r.xs, r.address(), aborted)
    },
  )

  test('xenstored is lost: it rejects, with every connection closed', async () => {
    await using r = await rig()
    const client = await openXenstore(r.dom0.xenstore)
    const driver = new RecordingDriver()
    const served = serveBackends(client, { domid: 0, type: TYPE, driver })
    await r.plug()
    await connect(r)
    client.close()
    await served.catch(() => {})
    expect(driver.violations).toEqual([])
    expect(driver.calls.map((call) => call.split(' ')[0])).toEqual([
      'offer',
      'connect',
      'close',
      'removed',
    ])
  })

  test('a refusal of xenstored ends all of it: nothing goes on in the background', async () => {
    await using r = await rig()
    const client = await openXenstore(r.dom0.xenstore)
    client.isDomainIntroduced = () => Promise.reject(new XenstoreError('no', { errno: 'EACCES' }))
    const driver = new RecordingDriver()
    const served = serveBackends(client, { domid: 0, type: TYPE, driver })
    const outcome = served.catch((error: unknown) => error)
    await r.plug()
    await r.front()
    r.machine.destroyDomain(r.machine.createDomain().domid)
    expect(await outcome).toMatchObject({ errno: 'EACCES' })
    expect(driver.calls).toEqual([`offer ${r.guest.domid}/0`, `removed ${r.guest.domid}/0`])
    await r.plug(1)
    await r.turns(10)
    expect(driver.calls).toHaveLength(2)
    expect(r.machine.xenstored.openResources().filter((line) => line.includes('watch'))).toEqual([])
    client.close()
  })
})
