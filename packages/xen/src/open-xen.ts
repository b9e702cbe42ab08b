/** Opens the hypervisor that this domain runs on. */
import {
  DEFAULT_ARENA_PAGES,
  EventLoop,
  type Hypervisor,
  NotAvailableError,
  type XenstorePort,
} from '@xenkit/hypervisor'
import { loadNative, type Native } from '@xenkit/native'
import { XenArena } from './arena.ts'
import { USE_SIM } from './devices.ts'
import { XenEvtchn } from './evtchn.ts'
import { XenGrants } from './grants.ts'
import { ownDomid } from './own-domid.ts'
import { XenXenstore } from './xenstore.ts'

/** Options of `openXen`. */
export interface OpenXenOptions {
  /**
   * Most pages that can be mapped, shared and allocated together, 1..1048576, default 65536 (256
   * MiB). Pages are address space, and take memory only while used.
   */
  readonly arenaPages?: number
}

/**
 * Opens Xen for this thread. `close`, or the thread's end, also closes everything opened through
 * it.
 * @throws NotAvailableError that says what is missing and what to do
 * @throws RangeError for `arenaPages` out of range
 */
export async function openXen({
  arenaPages = DEFAULT_ARENA_PAGES,
}: OpenXenOptions = {}): Promise<Hypervisor> {
  const xen = new Xen(load(), arenaPages)
  try {
    return await xen.introduced()
  } catch (error) {
    await xen.close()
    throw error
  }
}

/** The parts of a hypervisor that a toolstack's commands need. */
export interface XenControl extends AsyncDisposable {
  /** Id of the domain that this program runs in. */
  readonly domid: number
  readonly xenstore: XenstorePort
}

/**
 * Size of the arena for `openXenControl`: each connection over the xenbus device takes one page.
 */
const CONTROL_PAGES = 64

/**
 * Opens xenstore only, without the devices of grants and event channels.
 * @throws NotAvailableError that says what is missing and what to do
 */
export async function openXenControl(): Promise<XenControl> {
  const native = load()
  const arena = new XenArena(native, CONTROL_PAGES)
  const xenstore = new XenXenstore(native, arena)
  const close = async (): Promise<void> => {
    xenstore.close()
    arena.close()
  }
  try {
    return { domid: await ownDomid(xenstore), xenstore, [Symbol.asyncDispose]: close }
  } catch (error) {
    await close()
    throw error
  }
}

function load(): Native {
  try {
    return loadNative()
  } catch (error) {
    throw new NotAvailableError(
      `${error instanceof Error ? error.message : String(error)}; ${USE_SIM}`,
      {},
      { cause: error },
    )
  }
}

export class Xen implements Hypervisor {
  readonly name = 'xen'
  readonly arena: XenArena
  readonly loop = new EventLoop()
  readonly grants: XenGrants
  readonly evtchn: XenEvtchn
  readonly xenstore: XenXenstore
  #domid = 0

  constructor(native: Native, arenaPages: number) {
    this.arena = new XenArena(native, arenaPages)
    this.grants = new XenGrants(native, this.arena)
    this.evtchn = new XenEvtchn(native, this.arena)
    this.xenstore = new XenXenstore(native, this.arena)
  }

  get domid(): number {
    return this.#domid
  }

  /** Reads this domain's id from xenstore, and returns this hypervisor. */
  async introduced(): Promise<this> {
    this.#domid = await ownDomid(this.xenstore)
    return this
  }

  async close(): Promise<void> {
    this.xenstore.close()
    this.evtchn.close()
    this.grants.close()
    this.arena.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
