/** Errors for wrong arguments of a program without a type checker. */
import type { Hypervisor } from '@xenkit/hypervisor'
import { createMachine } from '@xenkit/sim'
import { expect, test } from 'vitest'
import { type ServeVbdOptions, openVbd, serveVbd } from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { rig } from '../support/rig.ts'

const read = (): void => {}

const NO_OBJECT =
  '"store" expected an object with "sectors" and "read", or a function that answers with one, "decline" or "no-medium", got '

const stores: [string, unknown, string][] = [
  ['nothing', undefined, `${NO_OBJECT}undefined`],
  ['a path', 'disk.img', `${NO_OBJECT}disk.img`],
  [
    'a promise',
    Promise.resolve(memoryStore(8)),
    '"store" expected a store, got a promise of one: is an "await" missing?',
  ],
  ['no read', { sectors: 8 }, '"store.read" expected a function, got undefined'],
  [
    'a write that is no function',
    { sectors: 8, read, write: true },
    '"store.write" expected a function, got true',
  ],
  ['no size', { read }, '"store.sectors" expected an integer 1..8796093022208, got undefined'],
]

test.each(stores)(
  'serveVbd refuses a wrong store and says what it expects: %s',
  async (_, store, message) => {
    await using machine = createMachine()
    const dom0 = machine.createDomain()
    const o = { store, signal: AbortSignal.abort() } as ServeVbdOptions
    await expect(serveVbd(dom0, o)).rejects.toThrow(new TypeError(message))
    await dom0.close()
  },
)

test.each(stores.filter(([name]) => name !== 'a promise'))(
  'a function returns a wrong store: its disk is closed with the same error: %s',
  async (_, store, message) => {
    await using r = await rig({ store: (() => store) as ServeVbdOptions['store'] & object })
    await r.plug()
    expect(await r.event(({ kind }) => kind === 'failed')).toMatchObject({
      error: new TypeError(message),
    })
  },
)

test.each<[string, unknown]>([
  ['undefined', undefined],
  ['a promise of one: is an "await" missing?', Promise.resolve()],
])('serveVbd and openVbd say what they expect for a hypervisor: %s', async (got, hv) => {
  const error = new TypeError(
    `"hv" expected a hypervisor, as openHypervisor and createDomain make it, got ${got}`,
  )
  await expect(serveVbd(hv as Hypervisor, { store: memoryStore(8) })).rejects.toThrow(error)
  await expect(openVbd(hv as Hypervisor, { vdev: 'xvda' })).rejects.toThrow(error)
})
