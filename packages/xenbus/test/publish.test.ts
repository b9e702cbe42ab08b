/** `BackendDevice.publish`: nodes that change while a device is connected. */
import { expect, test } from 'vitest'
import { unplugDevice } from '../src/index.ts'
import { connect, rig } from './rig.ts'

test('a connected frontend is told by the state being written again', async () => {
  await using r = await rig()
  const server = await r.serve()
  await r.plug()
  await connect(r)
  const { device } = await server.event('connected')
  const stop = new AbortController()
  const changes: (string | undefined)[] = []
  const watching = (async () => {
    for await (const _ of r.guestXs.watch(`${r.path('back')}/state`, { signal: stop.signal })) {
      changes.push(await r.guestXs.readOptional(`${r.path('back')}/sectors`))
    }
  })()
  await r.turns(3)
  await device.publish(() => ({ sectors: '16' }))
  await r.turns(5)
  stop.abort()
  await watching
  expect(changes).toEqual(['8', '16'])
})

test("what changes while the driver connects isn't overwritten by what it was before", async () => {
  await using r = await rig()
  const server = await r.serve()
  let sectors = '8'
  let published: Promise<void> | undefined
  server.driver.hooks.nodes = (device) => {
    const before = sectors
    if (before === '8') {
      sectors = '16'
      published = device.publish(() => ({ sectors: sectors }))
    }
    return { sectors: before }
  }
  await r.plug()
  await connect(r)
  await published
  expect(await r.xs.read(`${r.path('back')}/sectors`)).toBe('16')
})

test("a device that was removed isn't brought back", async () => {
  await using r = await rig()
  const server = await r.serve()
  await r.plug()
  await connect(r)
  const { device } = await server.event('connected')
  await unplugDevice(r.xs, r.address(), { signal: AbortSignal.abort() })
  await device.publish(() => ({ sectors: '16' }))
  expect(await r.xs.exists(r.path('back'))).toBe(false)
})
