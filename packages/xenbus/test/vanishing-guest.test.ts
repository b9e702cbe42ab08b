/** A guest that is destroyed while a toolstack plugs or unplugs its device. */
import type { XenstoreClient } from '@xenkit/xenstore-client'
import { expect, test } from 'vitest'
import { plugDevice, unplugDevice } from '../src/index.ts'
import { rig, type Rig } from './rig.ts'

/**
 * The rig's connection of domain 0. It destroys the guest just before the first transaction
 * commits.
 */
function spoiled(r: Rig): XenstoreClient {
  let gone = false
  const transaction: XenstoreClient['transaction'] = (body, o) =>
    r.xs.transaction(async (view) => {
      const result = await body(view)
      if (!gone) r.machine.destroyDomain(r.guest.domid)
      gone = true
      return result
    }, o)
  return new Proxy(r.xs, {
    get(client, name) {
      if (name === 'transaction') return transaction
      const value: unknown = Reflect.get(client, name)
      return typeof value === 'function' ? value.bind(client) : value
    },
  })
}

test('its device is unplugged all the same', async () => {
  await using r = await rig()
  await r.plug()
  await unplugDevice(spoiled(r), r.address())
  expect(await r.xs.exists(r.path('back'))).toBe(false)
})

test('a device that is being plugged has no domain any more', async () => {
  await using r = await rig()
  await expect(
    plugDevice(spoiled(r), { ...r.address(), frontend: {}, backend: {} }),
  ).rejects.toThrow(/domain \d+ doesn't exist/)
})
