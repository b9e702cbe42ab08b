/**
 * A connected frontend that changes its nodes, as a network card's does. One driver of a server
 * follows that, one can't.
 */
import { expect, test } from 'vitest'
import { connect, type Rig, rig } from './rig.ts'

const state = (r: Rig, side: 'front' | 'back'): string => `${r.path(side)}/state`

/** Makes the server's driver follow, and records the node's value at each call. */
async function following(r: Rig): Promise<(string | undefined)[]> {
  const read: (string | undefined)[] = []
  const server = await r.serve()
  server.driver.reconfigured = async ({ frontendPath }) => {
    read.push(await r.xs.readOptional(`${frontendPath}/headroom`))
  }
  return read
}

test('the driver has read the new values when the frontend goes on', async () => {
  await using r = await rig()
  const read = await following(r)
  await r.plug()
  const front = await connect(r)
  await front.reconfigure({ headroom: '256' })
  expect(read).toEqual(['256'])
  await r.until(state(r, 'back'), '4')
  await front.reconfigure({ headroom: '0' })
  expect(read.at(-1)).toBe('0')
  await r.until(state(r, 'back'), '4')
  expect(await r.xs.read(state(r, 'front'))).toBe('4')
  await front.close()
})

test('a frontend that writes its nodes after the state, as Linux does, is read again', async () => {
  await using r = await rig()
  const read = await following(r)
  await r.plug()
  const front = await connect(r)
  await r.guestXs.write(state(r, 'front'), '7')
  await r.until(state(r, 'back'), '8')
  await r.guestXs.write(`${r.path('front')}/headroom`, '256')
  await r.guestXs.write(state(r, 'front'), '4')
  await r.until(state(r, 'back'), '4')
  expect(read).toEqual([undefined, '256'])
  await front.close()
})

test('a frontend that does not wait for the backend ends with its last values', async () => {
  await using r = await rig()
  const read = await following(r)
  await r.plug()
  const front = await connect(r)
  // The backend is in Reconfigured from the first call when the second one begins, or later.
  for (const headroom of ['1', '2', '3']) await front.reconfigure({ headroom })
  await r.until(state(r, 'back'), '4')
  expect(read.at(-1)).toBe('3')
  await front.close()
})

test('a device whose frontend reconfigures can be closed', async () => {
  await using r = await rig()
  await following(r)
  await r.plug()
  const front = await connect(r)
  await r.guestXs.write(state(r, 'front'), '7')
  await r.until(state(r, 'back'), '8')
  await front.close()
  expect(await r.xs.read(state(r, 'back'))).toBe('6')
})

test('values that the driver refuses close the device, and the frontend hears of that', async () => {
  await using r = await rig()
  const server = await r.serve()
  server.driver.reconfigured = () => Promise.reject(new Error('too much'))
  await r.plug()
  const front = await connect(r)
  await expect(front.reconfigure({ headroom: '99999' })).rejects.toMatchObject({
    code: 'ERR_XEN_NEGOTIATION',
    details: { node: state(r, 'back'), value: '5', expected: '8' },
  })
  expect(await server.event('failed')).toMatchObject({ error: { message: 'too much' } })
  await front.close()
})

test('a driver that cannot follow stays connected', async () => {
  await using r = await rig()
  const server = await r.serve()
  await r.plug()
  const front = await connect(r)
  const abort = new AbortController()
  const refused = front.reconfigure({}, abort).catch((error: unknown) => error)
  await r.until(state(r, 'front'), '7')
  await r.turns(20)
  expect(await r.xs.read(state(r, 'back'))).toBe('4')
  abort.abort()
  expect(await refused).toMatchObject({ name: 'AbortError' })
  expect(server.events.map(({ kind }) => kind)).toEqual(['offered', 'connected'])
  await front.close()
})
