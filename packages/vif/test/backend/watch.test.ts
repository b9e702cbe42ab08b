/** Requests to capture and to mirror a card: what reaches the program, and what is answered. */
import { expect, test } from 'vitest'
import { type WatchRequest, watchVif } from '../../src/index.ts'
import { Served } from '../support/served.ts'

async function offered(watch?: (wanted: WatchRequest) => void | Promise<void>): Promise<Served> {
  const served = await Served.open()
  served.serve(watch ? { watch: (_, wanted) => watch(wanted) } : {})
  await served.event('offered')
  return served
}

test('a program gets each request once, with the nodes that were asked for', async () => {
  const got: WatchRequest[] = []
  await using s = await offered((wanted) => void got.push(wanted))
  await watchVif(s.xs, s.address, { capture: '/a file' })
  await watchVif(s.xs, s.address, { capture: '' })
  await watchVif(s.xs, s.address, { mirror: 'there' })
  await watchVif(s.xs, s.address, { mirror: 'there' })
  expect(got).toEqual([
    { capture: '/a file' },
    { capture: '' },
    { mirror: 'there' },
    { mirror: 'there' },
  ])
  expect(s.events.filter(({ kind }) => kind === 'changed')).toHaveLength(4)
  expect(await s.xs.exists(`${s.path()}/xenkit-capture`)).toBe(false)
})

test('a change of the rate does not repeat a request that waits for its end', async () => {
  const got: WatchRequest[] = []
  await using s = await offered((wanted) => void got.push(wanted))
  await s.xs.write(`${s.path()}/xenkit-capture`, '/a')
  await s.event('changed')
  await s.xs.write(`${s.path()}/rate`, '1000,1')
  await expect.poll(() => s.events.filter(({ kind }) => kind === 'changed').length).toBe(2)
  await watchVif(s.xs, s.address, { mirror: 'there' })
  expect(got).toEqual([{ capture: '/a' }, { mirror: 'there' }])
})

test("a program's error is the answer, and the next request is followed", async () => {
  let attempts = 0
  await using s = await offered(async () => {
    if (attempts++ === 0) throw new Error('the disk is full')
  })
  const refused = watchVif(s.xs, s.address, { capture: '/a' })
  await expect(refused).rejects.toThrow(/was not changed: .*the disk is full/)
  await watchVif(s.xs, s.address, { capture: '/a' })
  expect(attempts).toBe(2)
})

test('a program without captures and mirrors refuses them', async () => {
  await using s = await offered()
  const refused = watchVif(s.xs, s.address, { mirror: 'there' })
  await expect(refused).rejects.toThrow(/has no captures and mirrors/)
  await expect(watchVif(s.xs, s.address, { capture: 'x'.repeat(1025) })).rejects.toThrow(RangeError)
})
