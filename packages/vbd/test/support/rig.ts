/**
 * A machine with a backend domain, one or more served disks, and guests. Most tests of this package
 * start from it.
 */
import { Workers } from '@xenkit/backend'
import type { Hypervisor } from '@xenkit/hypervisor'
import { type ArenaLimits, type SimDomain, type SimMachine, createMachine } from '@xenkit/sim'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import { type ServeVbdOptions, type VbdEvent, plugVbd, serveVbd } from '../../src/index.ts'
import { type StartedThread, startRingThread } from './threads/start-ring-thread.ts'

export interface Rig extends AsyncDisposable {
  readonly machine: SimMachine
  readonly dom0: SimDomain
  readonly guest: SimDomain
  /** A connection with domain 0's rights. */
  readonly xs: XenstoreClient
  readonly events: VbdEvent[]
  readonly threads: readonly StartedThread[]
  plug(o?: { guest?: SimDomain; vdev?: string; readOnly?: boolean; params?: string }): Promise<void>
  /** Resolves with the first event, past or future, for which `fits` is true. */
  event(fits: (event: VbdEvent) => boolean): Promise<VbdEvent>
  /** Ends the service and waits for it. */
  stop(): Promise<void>
}

type Served = Pick<ServeVbdOptions, 'store' | 'release' | 'dataPath' | 'abandonMs'>

export interface RigOptions extends Served {
  /** Wraps the server's hypervisor, to observe its calls. */
  through?: (dom0: Hypervisor) => Hypervisor
  /** Number of worker threads that serve rings. */
  threads?: number
  /** Arena of the server and of each of its threads. */
  arena?: ArenaLimits
}

export async function rig(o: RigOptions): Promise<Rig> {
  const machine = createMachine()
  const dom0 = machine.createDomain(o.arena ? { arena: o.arena } : {})
  const guest = machine.createDomain()
  const xs = await openXenstore(dom0.xenstore)
  const events: VbdEvent[] = []
  const listeners = new Set<(event: VbdEvent) => void>()
  const abort = new AbortController()
  const { through = (hv) => hv, threads: count = 0, arena: _, ...served } = o
  const threads = Array.from({ length: count }, () => startRingThread(dom0))
  const workers = new Workers(threads)
  const serving = serveVbd(through(dom0), {
    ...served,
    workers,
    signal: abort.signal,
    onEvent(event) {
      events.push(event)
      for (const listener of listeners) listener(event)
    },
  })
  const stop = async (): Promise<void> => {
    abort.abort()
    await serving
  }
  return {
    machine,
    dom0,
    guest,
    xs,
    events,
    threads,
    stop,
    plug: ({ guest: front = guest, vdev = 'xvda', readOnly = false, params = '' } = {}) =>
      plugVbd(xs, { frontendDomid: front.domid, backendDomid: dom0.domid, vdev, readOnly, params }),
    event: (fits) =>
      new Promise((resolve) => {
        const known = events.find(fits)
        if (known) return resolve(known)
        const listener = (event: VbdEvent): void => {
          if (!fits(event)) return
          listeners.delete(listener)
          resolve(event)
        }
        listeners.add(listener)
      }),
    async [Symbol.asyncDispose]() {
      await stop()
      await workers[Symbol.asyncDispose]()
      xs.close()
      await machine[Symbol.asyncDispose]()
    },
  }
}

/** Enough round trips to xenstored for the backend to have noticed a change of its nodes. */
export async function heardOf({ xs }: Pick<Rig, 'xs'>): Promise<void> {
  for (let i = 0; i < 50; i++) await xs.exists('/local/domain/0')
}
