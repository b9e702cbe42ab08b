/**
 * Checks xenstore through /dev/xen/xenbus, the way of a domain without xenstored's socket. The
 * scenario `loopback` hides the socket first.
 */
import { deepStrictEqual, strictEqual } from 'node:assert'
import type { Hypervisor } from '@xenkit/hypervisor'
import { openXenstore } from '@xenkit/xenstore-client'
import { check, soon } from '../tap.ts'

const HOME = '/local/domain/0/data/loopback'

export async function checkXenbusDevice(hv: Hypervisor): Promise<void> {
  using xs = await openXenstore(hv.xenstore)
  await check('xenbus device: a value of 2048 bytes is read back unchanged', async () => {
    const value = 'x'.repeat(2048)
    await xs.write(HOME, value)
    strictEqual(await xs.read(HOME), value)
  })
  await check('xenbus device: 300 requests at once are all answered', async () => {
    const names = Array.from({ length: 300 }, (_, i) => `n${i}`)
    await Promise.all(names.map((name) => xs.write(`${HOME}/${name}`, name)))
    deepStrictEqual(await Promise.all(names.map((name) => xs.read(`${HOME}/${name}`))), names)
  })
  await check('xenbus device: wait sees the result of a transaction', async () => {
    const seen = xs.wait(async (view) =>
      (await view.readOptional(`${HOME}/flag`)) === 'up' ? true : undefined,
    )
    await xs.transaction(async (view) => {
      await view.write(`${HOME}/flag`, 'down')
      await view.write(`${HOME}/flag`, 'up')
    })
    strictEqual(await soon('the flag', seen), true)
  })
  await xs.rm(HOME)
}
