/**
 * xenstored refuses a request of a backend's domain, mostly because a quota is used up. Only the
 * device that made the request closes, with the reason, and it may connect again later.
 */
import { XenstoreError } from '@xenkit/hypervisor'
import { describe, expect, test } from 'vitest'
import { unplugDevice } from '../src/index.ts'
import { connect, type Rig, rig } from './rig.ts'

const aborted = { signal: AbortSignal.abort() }
const reason = (r: Rig, devid: number): string =>
  `/local/domain/${r.backend.domid}/error/backend/toy/${r.guest.domid}/${devid}/error`
const state = (r: Rig, devid: number): string => `${r.path('back', devid)}/state`
const DEVICES = 9

describe('nine devices in a driver domain that may have six watches', () => {
  /**
   * Plugs all devices and waits until those without a watch have closed. The server takes one watch
   * of the six, and C xenstored allows one more than the quota.
   */
  async function crowded() {
    const r = await rig({ driverDomain: true })
    await r.xs.setQuota({ quota: 'watches', value: 6, domid: r.backend.domid })
    for (let devid = 0; devid < DEVICES; devid++) await r.plug(devid)
    const server = await r.serve()
    await r.xs.wait(async (view) => {
      const states = await Promise.all(
        Array.from({ length: DEVICES }, (_, devid) => view.read(state(r, devid))),
      )
      return states.filter((each) => each === '6').length === DEVICES - 6 || undefined
    })
    const closed: number[] = []
    for (let devid = 0; devid < DEVICES; devid++) {
      if ((await r.xs.read(state(r, devid))) === '6') closed.push(devid)
    }
    const open = Array.from({ length: DEVICES }, (_, devid) => devid).filter(
      (devid) => !closed.includes(devid),
    )
    return { r, server, open, closed }
  }

  test('those beyond close with the reason in their error nodes, told once; the others serve', async () => {
    const { r, server, open, closed } = await crowded()
    await using _r = r
    for (const devid of open) await connect(r, devid)
    for (const devid of closed) {
      expect(await r.xs.read(reason(r, devid))).toMatch(/^xenstore WATCH ".*": E\w+/)
    }
    await r.turns(50)
    const failed = server.events.filter(({ kind }) => kind === 'failed')
    expect(failed.map(({ device }) => device.devid).toSorted((a, b) => a - b)).toEqual(closed)
    expect(failed.every((event) => 'error' in event && event.error instanceof XenstoreError)).toBe(
      true,
    )
    expect(server.events.map(({ kind }) => kind)).not.toContain('removed')
    for (let devid = 0; devid < DEVICES; devid++) {
      await unplugDevice(r.xs, r.address(devid), aborted)
    }
  })

  test('they are offered when others have gone', async () => {
    const { r, open, closed } = await crowded()
    await using _r = r
    const fronts = await Promise.all(open.map((devid) => connect(r, devid)))
    for (const [i, devid] of open.entries()) {
      const unplugged = unplugDevice(r.xs, r.address(devid))
      await fronts[i]?.backendClosing()
      await fronts[i]?.close()
      await unplugged
    }
    for (const devid of closed) {
      await connect(r, devid)
      expect(await r.xs.read(state(r, devid))).toBe('4')
      await unplugDevice(r.xs, r.address(devid), aborted)
    }
  })
})

test("a device that can't even be taken says why, and is taken when there is room", async () => {
  await using r = await rig({ driverDomain: true })
  await r.plug(0)
  await r.xs.setQuota({ quota: 'nodes', value: 1, domid: r.backend.domid })
  const server = await r.serve()
  const failed = await server.event('failed')
  expect('error' in failed && String(failed.error)).toMatch(/ENOSPC/)
  expect(await r.xs.read(state(r, 0))).toBe('1')
  await r.turns(50)
  expect(server.events.map(({ kind }) => kind)).toEqual(['failed'])
  await r.xs.setQuota({ quota: 'nodes', value: 1000, domid: r.backend.domid })
  await r.xs.write(`${r.path('back', 0)}/poke`, '1')
  await connect(r, 0)
  await unplugDevice(r.xs, r.address(0), aborted)
})

test('a server that is to end does, whatever xenstored refuses it', async () => {
  await using r = await rig({ driverDomain: true })
  const server = await r.serve()
  await r.plug(0)
  await connect(r, 0)
  // The server can't read or write its device's directory any more.
  await r.xs.setPerms(r.path('back', 0), { owner: 0, access: 'none', acl: [] })
  for (const name of await r.xs.list(r.path('back', 0))) {
    await r.xs.setPerms(`${r.path('back', 0)}/${name}`, { owner: 0, access: 'none', acl: [] })
  }
  await server.stop()
  expect(server.events.map(({ kind }) => kind).slice(0, 2)).toEqual(['offered', 'connected'])
  expect(server.events.some(({ kind }) => kind === 'failed')).toBe(true)
  await unplugDevice(r.xs, r.address(0), aborted)
})
