import { expect, test } from 'vitest'
import { twoDomains } from './support/machine.ts'

/** Runs once each thing that the machine's seed decides, and returns a trace of the outcomes. */
async function run(seed: number): Promise<unknown[]> {
  await using m = twoDomains({ seed })
  const trace: unknown[] = []
  const share = m.front.grants.share({ domid: 0, pages: 4, writable: true })
  trace.push(...share.grefs)
  const fronts = Array.from({ length: 6 }, () => m.front.evtchn.bindUnbound({ domid: 0 }, () => {}))
  const backs = fronts.map((front) =>
    m.back.evtchn.bindInterdomain({ domid: 1, port: front.port }, () => trace.push(front.port)),
  )
  trace.push(...backs.map(({ port }) => port))
  await expect.poll(() => trace.length).toBe(16)
  for (const open of [share, ...fronts, ...backs]) open.close()
  return trace
}

test('the same seed gives the same run, another seed a different one', async () => {
  const one = await run(42)
  expect(await run(42)).toEqual(one)
  const other = await run(43)
  expect(other.filter((value, at) => value === one[at]).length).toBeLessThan(4)
})

test('events of a batch arrive in random order', async () => {
  const order = (await run(42)).slice(-6)
  expect(new Set(order).size).toBe(6)
  const orders = await Promise.all(
    [1, 2, 3].map(async (seed) => (await run(seed)).slice(-6).map(Number)),
  )
  expect(orders.some((ports) => ports.some((port, at) => port < (ports[at - 1] ?? 0)))).toBe(true)
})

test('a seed out of range is refused', () => {
  expect(() => twoDomains({ seed: -1 })).toThrow(RangeError)
})
