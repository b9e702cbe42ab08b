/**
 * `FrontendDevice` against a backend whose states the test writes, and in some tests against a real
 * server.
 */
import { describe, expect, test } from 'vitest'
import { XenbusState } from '@xenkit/wire'
import { FrontendDevice, backendPath, plugDevice, unplugDevice } from '../src/index.ts'
import { connect, type Rig, rig, TYPE } from './rig.ts'

const aborted = { signal: AbortSignal.abort() }
const stateOf = (r: Rig, side: 'front' | 'back'): Promise<string> =>
  r.xs.read(`${r.path(side)}/state`)
const backend = (r: Rig, state: string): Promise<void> =>
  r.xs.write(`${r.path('back')}/state`, state)
/** Whether the promise settles within a few round trips to xenstored. */
async function isSettled(r: Rig, promise: Promise<unknown>): Promise<boolean> {
  let settled = false
  const note = (): void => {
    settled = true
  }
  promise.then(note, note)
  await r.turns(20)
  return settled
}

/** Records the states of one side, until the returned function is called. */
async function followed(r: Rig, path: string): Promise<() => Promise<string[]>> {
  const abort = new AbortController()
  const states: string[] = []
  let begun = (): void => {}
  const first = new Promise<void>((resolve) => (begun = resolve))
  const following = (async () => {
    for await (const _ of r.xs.watch(`${path}/state`, abort)) {
      states.push((await r.xs.readOptional(`${path}/state`)) ?? 'gone')
      begun()
    }
  })().catch(() => {})
  await first
  return async () => {
    await r.turns(20)
    abort.abort()
    await following
    return states
  }
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

  test.each(['3', '4', '5', '0', 'banana'])(
    'an earlier life that ended in state %s: the backend lets go of its rings first',
    async (state) => {
      await using r = await rig()
      await r.plug()
      await r.guestXs.write(`${r.path('front')}/state`, state)
      // The backend offers the old rings' device. The new frontend must not take this InitWait as
      // its own.
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

  test('an earlier life that has closed does not close once more', async () => {
    await using r = await rig()
    await r.plug()
    await r.guestXs.write(`${r.path('front')}/state`, '6')
    await backend(r, '5')
    const states = await followed(r, r.path('front'))
    const opening = r.front()
    expect(await isSettled(r, opening)).toBe(false)
    await backend(r, '6')
    await r.until(`${r.path('front')}/state`, '1')
    await backend(r, '2')
    await opening
    expect(await states()).toEqual(['6', '1'])
  })

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

  test("a network card's way: connected as soon as it has published", async () => {
    await using r = await rig()
    await r.plug()
    await backend(r, '2')
    const front = await r.front()
    const states = await followed(r, front.path)
    await front.publish({ 'tx-ring-ref': '8' }, XenbusState.Connected)
    expect(await stateOf(r, 'front')).toBe('4')
    const connected = front.connected()
    expect(await isSettled(r, connected)).toBe(false)
    await backend(r, '4')
    await connected
    // `connected` didn't write the frontend's state again.
    expect(await states()).toEqual(['1', '4'])
  })

  test.each([XenbusState.Initialised, XenbusState.Connected] as const)(
    'a server connects to a frontend that goes to %s',
    async (state) => {
      await using r = await rig()
      await r.serve()
      await r.plug()
      const front = await r.front()
      await front.publish({ 'ring-ref': '8' }, state)
      await front.connected()
      expect(await stateOf(r, 'back')).toBe('4')
      await front.close()
      await unplugDevice(r.xs, r.address())
    },
  )

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

describe('the next life', () => {
  async function connectByHand(r: Rig, life: number): Promise<FrontendDevice> {
    const front = await r.front()
    await front.publish({ 'ring-ref': String(life) })
    await backend(r, '4')
    await front.connected()
    return front
  }

  test('after the backend has closed and offers anew', async () => {
    await using r = await rig()
    await r.plug()
    await backend(r, '2')
    const front = await connectByHand(r, 8)
    await backend(r, '5')
    await front.backendClosing()
    const closing = front.close()
    await r.until(`${front.path}/state`, '6')
    await backend(r, '6')
    await closing
    const opening = r.front()
    await r.until(`${front.path}/state`, '1')
    await backend(r, '2')
    await opening
    await connectByHand(r, 9)
    expect(await r.xs.read(`${front.path}/ring-ref`)).toBe('9')
  })

  test.each(['1', '2'])(
    'after the backend has restarted, which shows by state %s',
    async (state) => {
      await using r = await rig()
      await r.plug()
      await backend(r, '2')
      const early = await r.front()
      // Before the first connection, the backend's state is no sign of a restart.
      const waiting = new AbortController()
      const notYet = early.backendClosing(waiting)
      expect(await isSettled(r, notYet)).toBe(false)
      waiting.abort()
      await expect(notYet).rejects.toMatchObject({ name: 'AbortError' })
      const front = await connectByHand(r, 8)
      const restarted = front.backendClosing()
      expect(await isSettled(r, restarted)).toBe(false)
      await backend(r, state)
      await restarted
    },
  )

  test('after the toolstack has plugged the device anew, with the same server', async () => {
    await using r = await rig()
    const server = await r.serve()
    await r.plug()
    const front = await connect(r)
    const leaving = front.backendClosing()
    await unplugDevice(r.xs, r.address(), aborted)
    await r.plug()
    await leaving
    await front.close()
    await (await connect(r)).close()
    await unplugDevice(r.xs, r.address())
    expect(server.driver.violations).toEqual([])
  })

  test('after this domain was restored: with another backend, which the old life leaves alone', async () => {
    await using r = await rig()
    await r.plug()
    await backend(r, '2')
    const front = await connectByHand(r, 8)
    const leaving = front.backendClosing()
    const other = r.machine.createDomain()
    await r.xs.transaction(async (view) => {
      await view.rm(r.path('front'))
      await view.rm(r.path('back'))
    })
    const address = { ...r.address(), backendDomid: other.domid }
    await plugDevice(r.xs, { ...address, frontend: {}, backend: {} })
    await leaving
    await front.publish({ 'ring-ref': '9' })
    await front.close()
    expect(await stateOf(r, 'front')).toBe('1')
    expect(await r.xs.exists(`${front.path}/ring-ref`)).toBe(false)
    const opening = r.front()
    await r.xs.write(`${backendPath(address)}/state`, '2')
    expect(await opening).toMatchObject({
      backendPath: backendPath(address),
      backendDomid: other.domid,
    })
  })
})

describe('a domain that dies', () => {
  const ends = [
    ['is destroyed', (r: Rig) => r.machine.destroyDomain(r.guest.domid)],
    ['is closed in this program', (r: Rig) => r.guest.close()],
    ['loses its connection', (r: Rig) => r.guestXs.close()],
  ] as const
  const waits: readonly (readonly [string, (r: Rig) => Promise<() => Promise<unknown>>])[] = [
    ['open, for the toolstack', async (r) => () => r.front()],
    ['open, for the backend', async (r) => (await r.plug(), () => r.front())],
    ['connected', async (r) => publishing(r, (front) => front.connected())],
    ['backendClosing', async (r) => publishing(r, (front) => front.backendClosing())],
    ['close', async (r) => publishing(r, (front) => front.close())],
  ]
  async function publishing(r: Rig, wait: (front: FrontendDevice) => Promise<unknown>) {
    await r.plug()
    await backend(r, '2')
    const front = await r.front()
    await front.publish({ 'ring-ref': '8' })
    return () => wait(front)
  }

  test.each(
    ends.flatMap(([end, die]) => waits.map(([wait, begin]) => [end, wait, die, begin] as const)),
  )('and %s: %s rejects', async (_, __, die, begin) => {
    await using r = await rig()
    const waiting = (await begin(r))()
    expect(await isSettled(r, waiting)).toBe(false)
    await die(r)
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_XEN_XENSTORE_CLOSED' })
    r.guestXs.close()
  })
})
