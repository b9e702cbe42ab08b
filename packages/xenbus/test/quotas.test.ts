/**
 * A driver domain with C xenstored's quotas: as many devices as the quotas allow are created and
 * removed concurrently.
 */
import { describe, expect, test } from 'vitest'
import { FrontendDevice, unplugDevice } from '../src/index.ts'
import { type Rig, rig, type Server, TYPE } from './rig.ts'

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i)

/** As many extra nodes as a disk publishes, all written when the device is offered. */
const offered = Object.fromEntries(numbers(22).map((i) => [`feature-${i}`, '1']))

async function crowd(o: { readonly nodes?: number; readonly watches?: number } = {}) {
  const r = await rig({ driverDomain: true })
  const { domid } = r.backend
  for (const [quota, value] of Object.entries(o)) await r.xs.setQuota({ quota, value, domid })
  const server = await r.serve()
  server.driver.hooks.offer = async () => offered
  server.driver.hooks.nodes = () => offered
  await r.turns(3)
  return { r, server, [Symbol.asyncDispose]: () => r[Symbol.asyncDispose]() }
}

/** Opens the frontend over domain 0's connection, so that only the backend's quotas count. */
async function connect(r: Rig, devid: number): Promise<FrontendDevice> {
  const front = await FrontendDevice.open(r.xs, { domid: r.guest.domid, type: TYPE, devid })
  await front.publish({})
  await front.connected()
  return front
}

/** Unplugs the device, while the frontend closes when its backend does, as in a guest. */
async function unplug(r: Rig, devid: number, front: FrontendDevice): Promise<void> {
  const closed = front.backendClosing().then(() => front.close())
  await Promise.all([unplugDevice(r.xs, r.address(devid)), closed])
}

async function comeAndGo(r: Rig, server: Server, devids: readonly number[]): Promise<void> {
  await Promise.all(devids.map((devid) => r.plug(devid)))
  const fronts = await Promise.all(devids.map((devid) => connect(r, devid)))
  await Promise.all(fronts.map((front, i) => unplug(r, devids[i] ?? 0, front)))
  await Promise.all(devids.map((devid) => server.event('removed', devid)))
  for (const kind of ['offered', 'connected', 'closed', 'removed'] as const) {
    expect(server.events.filter((event) => event.kind === kind)).toHaveLength(devids.length)
  }
}

test("30 devices, which is what a domain's 1000 nodes are enough for", async () => {
  await using c = await crowd()
  await comeAndGo(c.r, c.server, numbers(30))
  expect(c.server.events.filter(({ kind }) => kind === 'failed')).toEqual([])
  expect(await c.r.xs.exists(`/local/domain/${c.r.backend.domid}/backend`)).toBe(false)
})

test('100 devices, where the domain may have as many nodes', async () => {
  await using c = await crowd({ nodes: 4000 })
  await comeAndGo(c.r, c.server, numbers(100))
  expect(c.server.events.filter(({ kind }) => kind === 'failed')).toEqual([])
}, 60_000)

describe('one too many', () => {
  test.each([
    ['nodes', { nodes: 900 }, 31],
    ['watches', { nodes: 8000, watches: 128 }, 129],
  ])(
    'for the quota of %s says so, while the others live',
    async (quota, quotas, devices) => {
      await using c = await crowd(quotas)
      const { r, server } = c
      const devids = numbers(devices)
      await Promise.all(devids.map((devid) => r.plug(devid)))
      const failed = await Promise.any(devids.map((devid) => server.event('failed', devid)))
      const reason = 'error' in failed && String(failed.error)
      expect(reason).toContain(`over the domain's quota of ${quota}`)
      const others = devids.filter((devid) => devid !== failed.device.devid)
      const fronts = await Promise.all(others.map((devid) => connect(r, devid)))
      expect(server.events.filter(({ kind }) => kind === 'failed')).toHaveLength(1)
      await Promise.all(fronts.map((front, i) => unplug(r, others[i] ?? 0, front)))
      // With the others unplugged, the failed device fits into the quota and connects.
      const late = await connect(r, failed.device.devid)
      await unplug(r, failed.device.devid, late)
    },
    60_000,
  )
})
