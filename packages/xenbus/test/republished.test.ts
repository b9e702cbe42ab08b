/**
 * A frontend that publishes new rings after passing through any states, of which the backend may
 * miss some. It ends connected by the rings that it published last.
 */
import fc from 'fast-check'
import { XenbusState } from '@xenkit/wire'
import { describe, expect, test } from 'vitest'
import { FrontendDevice, unplugDevice } from '../src/index.ts'
import { connect, type Rig, rig } from './rig.ts'

const { Initialising, InitWait, Initialised, Connected, Closing, Closed } = XenbusState

/** Serves a driver that recognizes the frontend's rings by the value of `ring-ref`. */
async function served(r: Rig) {
  const server = await r.serve()
  const rings = new Map<string, string | undefined>()
  const published = () => r.xs.readOptional(`${r.path('front')}/ring-ref`)
  server.driver.hooks.connect = async ({ path }) => void rings.set(path, await published())
  server.driver.hooks.isCurrent = async ({ path }) => (await published()) === rings.get(path)
  return { server, rings }
}

async function write(r: Rig, state: XenbusState, ring?: string): Promise<void> {
  await r.guestXs.transaction(async (view) => {
    if (ring !== undefined) await view.write(`${r.path('front')}/ring-ref`, ring)
    await view.write(`${r.path('front')}/state`, String(state))
  })
}

/**
 * The frontend of a connected device writes Closing, then Connected again. It keeps its rings, so
 * the backend has to return to Connected without attaching to them anew.
 */
async function takeBack(r: Rig): Promise<void> {
  await r.plug()
  await connect(r)
  await write(r, Closing)
  await r.until(`${r.path('back')}/state`, '5')
  await write(r, Connected)
  await r.until(`${r.path('back')}/state`, '4')
}

test.each([
  ['from Closed', [Closed], Closed],
  ['after a close', [Closing, Closed], Closed],
  ['after a close that it cut short', [Closing], Closing],
])('%s, having waited for the backend: connected', async (_, way, own) => {
  for (const last of [Initialised, Connected]) {
    await using r = await rig()
    const { rings } = await served(r)
    await r.plug()
    await connect(r)
    for (const state of way) await write(r, state)
    await r.until(`${r.path('back')}/state`, String(own))
    await write(r, last, '9')
    await r.until(`${r.path('back')}/state`, '4')
    expect(rings.get(r.path('back'))).toBe('9')
    await unplugDevice(r.xs, r.address(), { signal: AbortSignal.abort() })
  }
})

test('a close that it takes back, with the rings that it has: they stay connected', async () => {
  await using r = await rig()
  const { server } = await served(r)
  await takeBack(r)
  expect(server.driver.calls.map((call) => call.split(' ')[0])).toEqual(['offer', 'connect'])
  await unplugDevice(r.xs, r.address(), { signal: AbortSignal.abort() })
})

test('a fault after a close that it took back: the rings that failed stay closed until it lets go', async () => {
  await using r = await rig()
  const { server } = await served(r)
  await takeBack(r)
  for (const device of server.driver.devices) device.fail(new Error('broken'))
  await r.until(`${r.path('back')}/state`, '5')
  await r.turns(50)
  expect(await r.xs.read(`${r.path('back')}/state`)).toBe('5')
  // In one transaction the frontend leaves Closing and publishes other rings.
  await write(r, Connected, '9')
  await r.until(`${r.path('back')}/state`, '4')
  expect(server.driver.calls.map((call) => call.split(' ')[0])).toEqual([
    'offer',
    'connect',
    'close',
    'connect',
  ])
  await unplugDevice(r.xs, r.address(), { signal: AbortSignal.abort() })
})

test('whatever it passes, merged or not: it ends connected to what it published last', async () => {
  const step = fc.record({
    state: fc.constantFrom(Initialising, InitWait, Initialised, Connected, Closing, Closed),
    /**
     * Round trips to xenstored before the next step. With 0, the backend may miss this step's
     * state.
     */
    turns: fc.constantFrom(0, 0, 0, 1, 8, 20),
  })
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 8 }),
      fc.constantFrom(Initialised, Connected),
      async (steps, last) => {
        await using r = await rig()
        const { server, rings } = await served(r)
        await r.plug()
        await connect(r)
        let ring = 8
        for (const { state, turns } of steps) {
          await write(r, state, state === Initialised ? String(++ring) : undefined)
          await r.turns(turns)
        }
        await write(r, last, String(++ring))
        await r.until(`${r.path('back')}/state`, '4')
        while (rings.get(r.path('back')) !== String(ring)) await r.turns(1)
        await r.until(`${r.path('back')}/state`, '4')
        expect(server.events.filter(({ kind }) => kind === 'failed')).toEqual([])
        await unplugDevice(r.xs, r.address(), { signal: AbortSignal.abort() })
      },
    ),
    { numRuns: 100, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: false },
  )
})

describe('a device without "online"', () => {
  test('lives until its frontend has closed', async () => {
    await using r = await rig()
    const server = await r.serve()
    await r.plug()
    await r.xs.rm(`${r.path('back')}/online`)
    const front = await connect(r)
    await r.turns(20)
    expect(await r.xs.read(`${r.path('back')}/state`)).toBe('4')
    await front.close()
    await server.event('removed')
    await unplugDevice(r.xs, r.address())
  })

  test('is offered to a frontend that has done nothing yet', async () => {
    await using r = await rig()
    await r.plug()
    await r.xs.rm(`${r.path('back')}/online`)
    await r.serve()
    await FrontendDevice.open(r.guestXs, { domid: r.guest.domid, type: 'toy', devid: 0 })
    expect(await r.xs.read(`${r.path('back')}/state`)).toBe('2')
    await unplugDevice(r.xs, r.address(), { signal: AbortSignal.abort() })
  })

  test('explicitly offline it closes at once', async () => {
    await using r = await rig()
    const server = await r.serve()
    await r.plug()
    await connect(r)
    await r.xs.write(`${r.path('back')}/online`, '0')
    await r.until(`${r.path('back')}/state`, '5')
    await write(r, Closed)
    await server.event('removed')
    expect(await r.xs.read(`${r.path('back')}/state`)).toBe('6')
    await unplugDevice(r.xs, r.address())
  })
})
