/**
 * The frontend's half, against a backend that a test plays by hand, and against a server where that
 * matters.
 */
import { describe, expect, test } from 'vitest'
import { FrontendDevice, unplugDevice } from '../src/index.ts'
import { connect, type Rig, rig, TYPE } from './rig.ts'

const aborted = { signal: AbortSignal.abort() }
const stateOf = (r: Rig, side: 'front' | 'back'): Promise<string> =>
  r.xs.read(`${r.path(side)}/state`)
const backend = (r: Rig, state: string): Promise<void> =>
  r.xs.write(`${r.path('back')}/state`, state)
/** Of a promise that may be pending. */
async function isSettled(r: Rig, promise: Promise<unknown>): Promise<boolean> {
  let settled = false
  const note = (): void => {
    settled = true
  }
  promise.then(note, note)
  await r.turns(20)
  return settled
}

describe('open', () => {
  test("waits for the toolstack, then for the backend's offer", async () => {
    await using r = await rig()
    const opening = r.front()
    expect(await isSettled(r, opening)).toBe(false)
    await r.plug()
    expect(await isSettled(r, opening)).toBe(false)
    await backend(r, '2')
    expect(await opening).toMatchObject({
      path: r.path('front'),
      backendPath: r.path('back'),
      backendDomid: 0,
    })
    expect(await stateOf(r, 'front')).toBe('1')
  })

  test.each(['32752', '-1', '0x0', '', ' 0', '00'])('refuses "%s" for a domid', async (domid) => {
    await using r = await rig()
    await r.plug()
    await r.xs.write(`${r.path('front')}/backend-id`, domid)
    await expect(r.front()).rejects.toMatchObject({
      code: 'ERR_XEN_NEGOTIATION',
      details: { node: `${r.path('front')}/backend-id`, value: domid },
    })
  })

  test('a signal ends every wait, with its reason', async () => {
    await using r = await rig()
    const address = { domid: r.guest.domid, type: TYPE, devid: 0 }
    for (const plugged of [false, true]) {
      const abort = new AbortController()
      const opening = FrontendDevice.open(r.guestXs, address, abort)
      expect(await isSettled(r, opening)).toBe(false)
      abort.abort(new Error('enough'))
      await expect(opening).rejects.toThrow('enough')
      if (!plugged) await r.plug()
    }
    await backend(r, '2')
    const front = await r.front()
    for (const wait of [
      front.connected(aborted),
      front.backendClosing(aborted),
      front.close(aborted),
    ]) {
      await expect(wait).rejects.toMatchObject({ name: 'AbortError' })
    }
  })

  test.each(['3', '4', '5', '6', '0', 'banana'])(
    'an earlier life that ended in state %s: the backend lets go of its rings first',
    async (state) => {
      await using r = await rig()
      await r.plug()
      await r.guestXs.write(`${r.path('front')}/state`, state)
      // About to connect to the old rings: this InitWait isn't meant for the new life.
      await backend(r, '2')
      const opening = r.front()
      await r.until(`${r.path('front')}/state`, '5')
      expect(await isSettled(r, opening)).toBe(false)
      await backend(r, '5')
      await r.until(`${r.path('front')}/state`, '6')
      expect(await isSettled(r, opening)).toBe(false)
      await backend(r, '6')
      await r.until(`${r.path('front')}/state`, '1')
      expect(await isSettled(r, opening)).toBe(false)
      await backend(r, '2')
      await opening
    },
  )

  test('a frontend that crashed while the backend connects to its rings', async () => {
    await using r = await rig()
    const server = await r.serve()
    let proceed: (() => void) | undefined
    const connecting = new Promise<void>((resolve) => {
      server.driver.hooks.connect = () =>
        new Promise((go) => {
          proceed = go
          resolve()
        })
    })
    await r.plug()
    await (await r.front()).publish({ 'ring-ref': '8' })
    await connecting
    const opening = r.front()
    await r.turns(20)
    server.driver.hooks = {}
    proceed?.()
    const front = await opening
    await front.publish({ 'ring-ref': '9' })
    await front.connected()
    expect(server.driver.calls.map((call) => call.split(' ')[0])).toEqual([
      'offer',
      'connect',
      'close',
      'connect',
    ])
    await front.close()
    await unplugDevice(r.xs, r.address())
  })
})

describe('connecting', () => {
  test('publishes before it says so', async () => {
    await using r = await rig()
    await r.plug()
    await backend(r, '2')
    const front = await r.front()
    const seen = r.xs.wait(async (view) =>
      (await view.readOptional(`${front.path}/state`)) === '3'
        ? { ring: await view.readOptional(`${front.path}/ring-ref`) }
        : undefined,
    )
    await front.publish({ 'ring-ref': '8', 'event-channel': '3' })
    expect(await seen).toEqual({ ring: '8' })
    const connected = front.connected()
    expect(await isSettled(r, connected)).toBe(false)
    await backend(r, '4')
    await connected
    expect(await stateOf(r, 'front')).toBe('4')
  })

  test.each(['5', '6'])('rejects when the backend goes to %s instead', async (state) => {
    await using r = await rig()
    await r.plug()
    await backend(r, '2')
    const front = await r.front()
    await front.publish({})
    await backend(r, state)
    await expect(front.connected()).rejects.toMatchObject({
      code: 'ERR_XEN_NEGOTIATION',
      details: { node: `${front.backendPath}/state`, value: state, expected: '4' },
    })
    expect(await stateOf(r, 'front')).toBe('3')
  })

  test.each([
    ['domain 0', {}],
    ['a driver domain', { driverDomain: true }],
  ])(
    'rejects when the device of %s is removed instead, and does not bring it back',
    async (_, where) => {
      await using r = await rig(where)
      await r.plug()
      await backend(r, '2')
      const front = await r.front()
      await front.publish({})
      const connected = front.connected().catch((error: unknown) => error)
      await r.xs.transaction(async (view) => {
        await view.rm(r.path('front'))
        await view.rm(r.path('back'))
      })
      expect(await connected).toMatchObject({
        code: 'ERR_XEN_NEGOTIATION',
        details: { node: `${front.backendPath}/state`, value: undefined },
      })
      await front.publish({ 'ring-ref': '8' })
      await front.close()
      await front.backendClosing()
      expect(await r.xs.exists(front.path)).toBe(false)
    },
  )

  test('a frontend in domain 0 does not bring its directory back either', async () => {
    await using r = await rig()
    await r.plug()
    await backend(r, '2')
    const front = await FrontendDevice.open(r.xs, { domid: r.guest.domid, type: TYPE, devid: 0 })
    await unplugDevice(r.xs, r.address(), aborted)
    await front.publish({ 'ring-ref': '8' })
    await front.close()
    expect(await r.xs.exists(front.path)).toBe(false)
  })

  test('a backend in a state that does not exist is at fault', async () => {
    await using r = await rig()
    await r.plug()
    await backend(r, '2')
    const front = await r.front()
    await backend(r, '11')
    for (const wait of [front.connected(), front.backendClosing()]) {
      await expect(wait).rejects.toMatchObject({
        code: 'ERR_XEN_NEGOTIATION',
        details: { value: '11' },
      })
    }
  })
})

describe('closing', () => {
  test('does not return before the backend is closed', async () => {
    await using r = await rig()
    await r.plug()
    await backend(r, '2')
    const front = await r.front()
    await backend(r, '4')
    await front.connected()
    const closing = front.close()
    await r.until(`${front.path}/state`, '5')
    expect(await isSettled(r, closing)).toBe(false)
    await backend(r, '5')
    await r.until(`${front.path}/state`, '6')
    expect(await isSettled(r, closing)).toBe(false)
    await backend(r, '6')
    await closing
  })

  test('a backend that closes, or is gone, is heard of', async () => {
    await using r = await rig()
    await r.plug()
    for (const end of [
      () => backend(r, '5'),
      () => backend(r, '6'),
      () => r.xs.rm(r.path('back')),
    ]) {
      await backend(r, '2')
      const front = await r.front()
      await backend(r, '4')
      const closing = front.backendClosing()
      expect(await isSettled(r, closing)).toBe(false)
      await end()
      await closing
    }
  })

  test('before anything was published, and twice', async () => {
    await using r = await rig()
    await r.serve()
    await r.plug()
    const front = await r.front()
    await front.close()
    await front.close()
    expect(await stateOf(r, 'back')).toBe('6')
    await (await connect(r)).close()
    await unplugDevice(r.xs, r.address())
  })
})
