import { createMachine } from '@xenkit/sim'
import { expect, test } from 'vitest'
import { openXenstore } from '../src/index.ts'

test('reads', async () => {
  await using machine = createMachine()
  machine.createDomain()
  const guest = machine.createDomain({ xenstore: 'ring' })
  machine.assertQuiescent()
  const xs = await openXenstore(guest.xenstore)
  expect(await xs.read('name')).toBe('sim-1')
  const t = performance.now()
  const values = await Promise.all(Array.from({ length: 5000 }, () => xs.read('name')))
  console.log(performance.now() - t)
  expect(values.length).toBe(5000)
  xs.close()
  await new Promise((r) => setTimeout(r, 20))
})
