/** `plugDevice` and `unplugDevice`, with and without a backend and a frontend that respond. */
import { openXenstore } from '@xenkit/xenstore-client'
import { describe, expect, test } from 'vitest'
import { plugDevice, ToolstackError, unplugDevice } from '../src/index.ts'
import { connect, rig } from './rig.ts'

const aborted = { signal: AbortSignal.abort() }

describe('plugDevice', () => {
  test('makes both directories, each pointing at the other', async () => {
    await using r = await rig()
    await plugDevice(r.xs, {
      ...r.address(7),
      frontend: { 'virtual-device': '7' },
      backend: { params: 'disk.img', online: '0' },
    })
    const read = async (path: string) =>
      Object.fromEntries(
        await Promise.all(
          (await r.xs.list(path)).map(async (name) => [name, await r.xs.read(`${path}/${name}`)]),
        ),
      )
    expect(await read(r.path('front', 7))).toEqual({
      'virtual-device': '7',
      backend: r.path('back', 7),
      'backend-id': '0',
      state: '1',
    })
    expect(await read(r.path('back', 7))).toEqual({
      params: 'disk.img',
      frontend: r.path('front', 7),
      'frontend-id': String(r.guest.domid),
      online: '1',
      state: '1',
    })
  })

  test('refuses a device that is there already, and leaves it as it is', async () => {
    await using r = await rig()
    await r.plug()
    await r.xs.write(`${r.path('back')}/state`, '4')
    await expect(r.plug()).rejects.toThrow(ToolstackError)
    expect(await r.xs.read(`${r.path('back')}/state`)).toBe('4')
  })

  test.each(['front', 'back'] as const)(
    'refuses a device of which only the %s half is left',
    async (side) => {
      await using r = await rig()
      await r.plug()
      await r.xs.rm(r.path(side === 'front' ? 'back' : 'front'))
      await expect(r.plug()).rejects.toThrow(/in use/)
    },
  )

  test.each([
    ['frontend', { frontendDomid: 30 }],
    ['backend', { backendDomid: 30 }],
  ] as const)('refuses a %s domain that does not exist, and makes nothing', async (_, unknown) => {
    await using r = await rig()
    await expect(
      plugDevice(r.xs, { ...r.address(), ...unknown, frontend: {}, backend: {} }),
    ).rejects.toThrow(/domain 30 doesn't exist/)
    expect(await r.xs.exists('/local/domain/30')).toBe(false)
    expect(await r.xs.exists(r.path('front'))).toBe(false)
  })

  test('refuses a domain that was destroyed', async () => {
    await using r = await rig()
    r.machine.destroyDomain(r.guest.domid)
    await expect(r.plug()).rejects.toThrow(ToolstackError)
  })

  test('twice at once: one gets it', async () => {
    await using r = await rig()
    const outcomes = await Promise.allSettled([r.plug(), r.plug(), r.plug()])
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual([
      'fulfilled',
      'rejected',
      'rejected',
    ])
  })

  test('nothing of an earlier device is left in a new one', async () => {
    await using r = await rig()
    await r.plug()
    for (const side of ['front', 'back'] as const) {
      await r.xs.write(`${r.path(side)}/leftover`, '1')
      await r.xs.rm(`${r.path(side)}/state`)
    }
    await r.plug()
    expect(await r.xs.exists(`${r.path('front')}/leftover`)).toBe(false)
    expect(await r.xs.exists(`${r.path('back')}/leftover`)).toBe(false)
  })
})

describe('permissions, as libxl sets them', () => {
  test('each side owns its directory and all in it, and lets the other one read', async () => {
    await using r = await rig({ driverDomain: true })
    await r.plug()
    const [back, front] = [r.backend.domid, r.guest.domid]
    for (const name of ['', '/state', '/backend']) {
      expect(await r.xs.getPerms(r.path('front') + name)).toEqual({
        owner: front,
        access: 'none',
        acl: [{ domid: back, access: 'read' }],
      })
    }
    for (const name of ['', '/state', '/online']) {
      expect(await r.xs.getPerms(r.path('back') + name)).toEqual({
        owner: back,
        access: 'none',
        acl: [{ domid: front, access: 'read' }],
      })
    }
  })

  test('a guest reads, and does not write, what its backend says; another guest sees neither', async () => {
    await using r = await rig({ driverDomain: true })
    await r.plug()
    const refused = { errno: 'EACCES' }
    for (const name of ['state', 'online', 'new']) {
      await expect(r.guestXs.write(`${r.path('back')}/${name}`, '0')).rejects.toMatchObject(refused)
    }
    await expect(r.guestXs.rm(r.path('back'))).rejects.toMatchObject(refused)
    expect(await r.guestXs.read(`${r.path('back')}/state`)).toBe('1')
    await r.guestXs.write(`${r.path('front')}/state`, '2')
    using backendXs = await openXenstore(r.backend.xenstore)
    expect(await backendXs.read(`${r.path('front')}/state`)).toBe('2')
    await expect(backendXs.write(`${r.path('front')}/state`, '3')).rejects.toMatchObject(refused)
    await backendXs.write(`${r.path('back')}/state`, '2')
    using other = await openXenstore(r.machine.createDomain().xenstore)
    for (const side of ['front', 'back'] as const) {
      await expect(other.read(`${r.path(side)}/state`)).rejects.toMatchObject(refused)
      await expect(other.list(r.path(side))).rejects.toMatchObject(refused)
    }
  })
})

describe('unplugDevice', () => {
  test.each([
    ['domain 0', {}],
    ['a driver domain', { driverDomain: true }],
  ])('a connected device of %s: both sides close, then all is gone', async (_, o) => {
    await using r = await rig(o)
    const server = await r.serve()
    await r.plug()
    const front = await connect(r)
    const unplugged = unplugDevice(r.xs, r.address())
    await front.backendClosing()
    expect(server.driver.calls).not.toContain(`close ${r.guest.domid}/0`)
    await front.close()
    await unplugged
    for (const side of ['front', 'back'] as const) {
      expect(await r.xs.exists(r.path(side))).toBe(false)
    }
    await server.event('removed')
    expect(server.driver.violations).toEqual([])
    expect(server.events.map(({ kind }) => kind)).toEqual([
      'offered',
      'connected',
      'closed',
      'removed',
    ])
  })

  test('a device that nobody serves: at once', async () => {
    await using r = await rig()
    await r.plug()
    await unplugDevice(r.xs, r.address())
    expect(await r.xs.exists(r.path('back'))).toBe(false)
    expect(await r.xs.exists(r.path('front'))).toBe(false)
  })

  test('a device that is served and was never connected', async () => {
    await using r = await rig()
    const server = await r.serve()
    await r.plug()
    await server.event('offered')
    await unplugDevice(r.xs, r.address())
    await server.event('removed')
    expect(server.driver.calls).toEqual([`offer ${r.guest.domid}/0`, `removed ${r.guest.domid}/0`])
  })

  test('a device that is closed already', async () => {
    await using r = await rig()
    const server = await r.serve()
    await r.plug()
    await (await connect(r)).close()
    await unplugDevice(r.xs, r.address())
    await server.event('removed')
    expect(await r.xs.exists(r.path('back'))).toBe(false)
  })

  test('a device that is gone already, wholly or by half', async () => {
    await using r = await rig()
    await unplugDevice(r.xs, r.address())
    await r.plug()
    await r.xs.rm(r.path('back'))
    await unplugDevice(r.xs, r.address())
    expect(await r.xs.exists(r.path('front'))).toBe(false)
  })

  test('a device whose state makes no sense', async () => {
    await using r = await rig({ driverDomain: true })
    await r.plug()
    await r.xs.write(`${r.path('back')}/state`, 'banana')
    await unplugDevice(r.xs, r.address(), aborted)
    expect(await r.xs.exists(r.path('back'))).toBe(false)
  })

  test('with an aborted signal: asks, does not wait, removes', async () => {
    await using r = await rig()
    const server = await r.serve()
    await r.plug()
    const front = await connect(r)
    await unplugDevice(r.xs, r.address(), aborted)
    expect(await r.xs.exists(r.path('back'))).toBe(false)
    await server.event('removed')
    expect(server.driver.violations).toEqual([])
    await front.close()
  })

  test('a signal that aborts while a deaf guest is waited for', async () => {
    await using r = await rig()
    const server = await r.serve()
    await r.plug()
    await connect(r)
    const abort = new AbortController()
    const unplugged = unplugDevice(r.xs, r.address(), abort)
    await r.until(`${r.path('back')}/state`, '5')
    await r.turns(20)
    expect(await r.xs.read(`${r.path('back')}/online`)).toBe('0')
    abort.abort()
    await unplugged
    await server.event('removed')
    expect(await r.xs.exists(r.path('back'))).toBe(false)
  })

  test('the reason of a failure goes with the device', async () => {
    await using r = await rig()
    const server = await r.serve()
    server.driver.hooks.offer = () => Promise.reject(new Error('no'))
    await r.plug()
    await server.event('failed')
    const error = `/local/domain/0/error/backend/toy/${r.guest.domid}/0/error`
    await r.until(error, 'unexpected: Error: no')
    await unplugDevice(r.xs, r.address())
    expect(await r.xs.exists(error)).toBe(false)
  })

  test('directories that it leaves empty go with it, and no others', async () => {
    await using r = await rig()
    await r.plug(1)
    await r.plug(2)
    await r.xs.write('/local/domain/0/error/backend/toy/77/1/error', 'of another device')
    await unplugDevice(r.xs, r.address(1))
    expect(await r.xs.exists(r.path('back', 2))).toBe(true)
    await unplugDevice(r.xs, r.address(2))
    expect(await r.xs.exists('/local/domain/0/backend')).toBe(false)
    expect(await r.xs.exists(`/local/domain/${r.guest.domid}/device`)).toBe(true)
    expect(await r.xs.read('/local/domain/0/error/backend/toy/77/1/error')).toBe(
      'of another device',
    )
  })
})
