/**
 * Random stories, with random pauses: frontends write any state, devices vanish and come back,
 * drivers throw, and several servers compete. Whatever happens, each driver is called as its
 * contract says, and no device is left connected. (XSA-350: state flapping at all points.)
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { plugDevice, ToolstackError, unplugDevice } from '../src/index.ts'
import { Ledger } from './recording-driver.ts'
import { type Rig, rig, type Server } from './rig.ts'

const DEVICES = 3
/** Stories per property. After a change to how devices are served, set FLAPS=1000 or so. */
const RUNS = Number(process.env['FLAPS'] ?? 25)

interface World {
  readonly r: Rig
  readonly servers: Server[]
  /** Calls of `unplugDevice` that haven't returned. */
  readonly pending: Promise<unknown>[]
  /** Driver calls, such as `connect`, whose next occurrence throws. */
  readonly faults: Set<string>
  /**
   * Whether the toolstack may remove devices by force. The next server of such a device can't know
   * that the earlier one is still closing it, so each server then keeps its own ledger.
   */
  readonly forced: boolean
}

type Act = (world: World) => Promise<unknown>

const devid = fc.nat(DEVICES - 1)
const guestState = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('1', '2', '3', '4', '5', '6') },
  { weight: 1, arbitrary: fc.constantFrom('0', '7', '8', '9', '', 'x', '-1') },
)
/** States in the order of a well-behaved frontend, so that some stories get a device connected. */
const courtesy = fc.constantFrom(['1', '3', '4'], ['5', '6'], ['5', '6', '1', '3', '4'])

const aborted = { signal: AbortSignal.abort() }

/** Ignores that xenstored refuses the guest, whose directory or domain may be gone. */
const guest =
  (act: (world: World) => Promise<unknown>): Act =>
  (world) =>
    act(world).catch(() => {})

const plug: Act = async ({ r }) => {
  for (let i = 0; i < DEVICES; i++) {
    await plugDevice(r.xs, { ...r.address(i), frontend: {}, backend: {} }).catch(
      (error: unknown) => {
        if (!(error instanceof ToolstackError)) throw error
      },
    )
  }
}

const named = (name: string, act: Act): readonly [string, Act] => [name, act]
const weighted = <T>(
  weight: number,
  arbitrary: fc.Arbitrary<T>,
): { weight: number; arbitrary: fc.Arbitrary<T> } => ({ weight, arbitrary })

const peaceful = [
  weighted(
    6,
    fc.tuple(devid, guestState).map(([id, state]) =>
      named(
        `front ${id} writes "${state}"`,
        guest(({ r }) => r.guestXs.write(`${r.path('front', id)}/state`, state)),
      ),
    ),
  ),
  weighted(
    6,
    fc.tuple(devid, courtesy, fc.nat(8)).map(([id, states, turns]) =>
      named(
        `front ${id} goes ${states.join()}, ${turns} turns each`,
        guest(async ({ r }) => {
          for (const state of states) {
            await r.guestXs.write(`${r.path('front', id)}/state`, state)
            await r.turns(turns)
          }
        }),
      ),
    ),
  ),
  weighted(
    1,
    devid.map((id) =>
      named(
        `front ${id} removes its state`,
        guest(({ r }) => r.guestXs.rm(`${r.path('front', id)}/state`)),
      ),
    ),
  ),
  weighted(
    1,
    devid.map((id) =>
      named(
        `front ${id} hides its state`,
        guest(({ r }) =>
          r.guestXs.setPerms(`${r.path('front', id)}/state`, {
            owner: r.guest.domid,
            access: 'none',
            acl: [],
          }),
        ),
      ),
    ),
  ),
  weighted(3, fc.constant(named('plug', plug))),
  weighted(
    1,
    devid.map((id) => named(`rm front ${id}`, ({ r }) => r.xs.rm(r.path('front', id)))),
  ),
  weighted(
    1,
    devid.map((id) =>
      named(`unplug ${id}`, async ({ r, pending }) => {
        pending.push(unplugDevice(r.xs, r.address(id)))
      }),
    ),
  ),
  weighted(
    1,
    fc.tuple(devid, fc.constantFrom('0', '1', 'x')).map(([id, online]) =>
      named(`online ${id} = ${online}`, ({ r }) =>
        r.xs.transaction(async (view) => {
          if (await view.exists(`${r.path('back', id)}/online`)) {
            await view.write(`${r.path('back', id)}/online`, online)
          }
        }),
      ),
    ),
  ),
  weighted(
    1,
    fc
      .constantFrom('offer', 'connect', 'close')
      .map((call) => named(`next ${call} throws`, async ({ faults }) => faults.add(call))),
  ),
  weighted(
    1,
    devid.map((id) =>
      named(`fault of ${id}`, async ({ servers }) => {
        for (const device of servers.flatMap(({ driver }) => [...driver.devices])) {
          if (device.devid === id) device.fail(new Error('fault'))
        }
      }),
    ),
  ),
  weighted(
    4,
    fc.nat(30).map((count) => named(`${count} turns`, ({ r }) => r.turns(count))),
  ),
  weighted(
    1,
    fc.constant(
      named('a server more', async (world) => {
        if (world.servers.length < 4) world.servers.push(await serve(world))
      }),
    ),
  ),
]
const force = [
  weighted(
    2,
    devid.map((id) => named(`rm back ${id}`, ({ r }) => r.xs.rm(r.path('back', id)))),
  ),
  weighted(
    2,
    devid.map((id) =>
      named(`unplug ${id} by force`, ({ r }) => unplugDevice(r.xs, r.address(id), aborted)),
    ),
  ),
]

async function serve({ r, faults, forced }: World): Promise<Server> {
  const server = await r.serve(forced ? new Ledger() : r.ledger)
  const hook = (call: string) => async (): Promise<void> => {
    // Wait a little before throwing, so that others act while the call is pending.
    await r.turns(faults.size)
    if (faults.delete(call)) throw new Error(`${call} throws`)
  }
  server.driver.hooks = {
    offer: () => hook('offer')().then(() => ({})),
    connect: hook('connect'),
    close: hook('close'),
  }
  return server
}

async function play(
  r: Rig,
  o: {
    story: readonly (readonly [string, Act])[]
    forced: boolean
    end: 'domain' | 'nodes' | 'devices'
  },
): Promise<Server[]> {
  const world: World = { r, servers: [], pending: [], faults: new Set(), forced: o.forced }
  world.servers.push(await serve(world), await serve(world))
  await plug(world)
  for (const [, act] of o.story) await act(world)
  world.faults.clear()
  if (o.end === 'nodes') await r.xs.rm(`/local/domain/${r.backend.domid}/backend`)
  if (o.end === 'domain') r.machine.destroyDomain(r.guest.domid)
  // Unless its domain is gone, the guest closes its devices now, so they can be unplugged without
  // force.
  for (let id = 0; id < DEVICES; id++) {
    await r.guestXs.write(`${r.path('front', id)}/state`, '6').catch(() => {})
  }
  await Promise.all([0, 1, 2].map((id) => unplugDevice(r.xs, r.address(id))))
  await Promise.all(world.pending)
  await Promise.all(world.servers.map((server) => server.stop()))
  return world.servers
}

const violationsOf = (servers: readonly Server[]): string[] =>
  servers.flatMap(({ driver }) => driver.violations)

/**
 * Whether the calls that a server's driver got for a device are complete lives: each starts with
 * `offer` and ends with `removed`.
 */
function follows(server: Server, name: string): boolean {
  const letters = new Map([
    ['offer', 'o'],
    ['connect', 'n'],
    ['close', 'x'],
    ['removed', 'r'],
  ])
  const calls = server.driver.calls
    .filter((call) => call.endsWith(` ${name}`))
    .map((call) => letters.get(call.split(' ')[0] ?? ''))
  // A `connect` that threw has no `close`. The ledger finds a connection that was never closed.
  return /^(?:o(?:nx?)*r)*$/.test(calls.join(''))
}

const cases = (['domain', 'nodes', 'devices'] as const).flatMap((end) => [
  { end, forced: false },
  { end, forced: true },
])

test.each(cases)(
  'in the end the $end go, by force: $forced: nothing is left, in no driver',
  async (how) => {
    const acts = fc.oneof(...peaceful, ...(how.forced ? force : []))
    await fc.assert(
      fc.asyncProperty(
        fc.array(acts, { maxLength: 25, size: 'max' }),
        fc.boolean(),
        async (story, driverDomain) => {
          await using r = await rig({ driverDomain })
          const servers = await play(r, { story, ...how })
          expect(violationsOf(servers)).toEqual([])
          for (const server of servers) {
            for (let id = 0; id < DEVICES; id++) {
              expect(follows(server, `${r.guest.domid}/${id}`)).toBe(true)
            }
          }
        },
      ),
      // The time limit leaves time to report the failing story, however long shrinking it takes.
      { numRuns: RUNS, interruptAfterTimeLimit: RUNS * 1_000, markInterruptAsFailure: true },
    )
  },
)

test('the story has what it is about: devices connect, fail and come back', async () => {
  const kinds = new Map<string, number>()
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(...peaceful, ...force), { minLength: 25, maxLength: 25 }),
      async (story) => {
        await using r = await rig()
        for (const { events } of await play(r, { story, forced: true, end: 'nodes' })) {
          for (const { kind } of events) kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
        }
      },
    ),
    { numRuns: 10, seed: 1 },
  )
  for (const kind of ['offered', 'connected', 'closed', 'failed', 'removed']) {
    expect(kinds.get(kind) ?? 0).toBeGreaterThan(9)
  }
})
