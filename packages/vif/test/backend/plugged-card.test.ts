/** A card and a link that answers late. */
import type { PluggedLink } from '@xenkit/frames'
import { expect, test } from 'vitest'
import { PluggedCard } from '../../src/backend/plugged-card.ts'

test('a link that answers too late is closed, and an error of that is told', async () => {
  const told: unknown[] = []
  const card = new PluggedCard(
    {
      frontendDomid: 1,
      devid: 0,
      name: 'vif1.0',
      mac: undefined,
      bridge: undefined,
      script: 'none',
      ips: [],
      rate: undefined,
      mtu: 1500,
    },
    { allocate: () => ({ bytes: new Uint8Array(0), close() {} }) },
    { failed: (error) => void told.push(error), stalled() {}, carrierChanged() {} },
  )
  const abandon = new AbortController()
  let answer: (link: PluggedLink) => void = () => {}
  const link = new Promise<PluggedLink>((resolve) => (answer = resolve))
  const plugging = card.plug({ plug: () => link }, abandon.signal)
  abandon.abort(new Error('the service ends'))
  await expect(plugging).rejects.toThrow('the service ends')
  const error = new Error('the device is busy')
  let closes = 0
  const closed = new Promise<void>((resolve) => {
    answer({
      send() {},
      async close() {
        closes++
        setImmediate(resolve)
        throw error
      },
    })
  })
  await closed
  expect([closes, told]).toEqual([1, [error]])
})
