/**
 * What all threads of a machine share: its memory, and the tables that hypercalls work on. The
 * tables lie in a buffer of their own, as Xen's do: no stray write into a page can reach them.
 */
import { DOMID_MAX, PAGE_SIZE } from '@xenkit/hypervisor'
import { grant_entry_v1 } from '@xenkit/wire'
import { MachineLock } from './machine-lock.ts'
import { SeededRandom } from './seeded-random.ts'
import { Table } from './table.ts'

/**
 * Domains that can exist at once. A domid is not used again, so a domain's slot is its domid modulo
 * this.
 */
const DOMAINS = 64
/** Threads that can be attached to domains at once. */
const ATTACHMENTS = 256
/** Pages that can be mapped at once, all domains together. */
const MAPTRACK = 16_384

/**
 * `mapped`: rows of the maptrack in use. `stored...`: the first store through a read-only mapping,
 * by whom (domid + 1, 0 for none) and to which byte of which grant.
 */
const header = [
  'lock',
  'random',
  'nextDomid',
  'nextFrame',
  'nextHandle',
  'mapped',
  'storedBy',
  'storedGrantor',
  'storedGref',
  'storedByte',
] as const
/** `owner`, here and below, is a domid + 1, so that 0 is a free row. */
/** `xenstorePort`: the port of the domain's xenstore ring; 0 if it has none. */
const domain = ['owner', 'grants', 'ports', 'xenstorePort'] as const
/** `upcall` is raised when one of the ports of that thread has an event. */
const attachment = ['owner', 'upcall'] as const
/** `view`: 1 for a frame that shows what is mapped read-only. */
/**
 * `maps`: read-only mappings + 65536 * writable ones. `clearByte` (offset + 1) and `notifyPort`: a
 * share's UnmapNotify, on its first frame.
 */
const frame = ['owner', 'orphan', 'maps', 'clearByte', 'notifyPort', 'view'] as const
/** A page that `owner` maps. The first page of a mapping carries what belongs to the mapping. */
const mapping = [
  'owner',
  'grantor',
  'gref',
  'frame',
  'writable',
  'clearByte',
  'notifyPort',
] as const
/**
 * `attachment`: the thread that hears of its events. A port of the toolstack's has one only while
 * it is adopted, and else is masked.
 * `references`: its binding and the unmap notifications that will use it. The last one frees it.
 */
const port = [
  'state',
  'pending',
  'masked',
  'remoteDomid',
  'remotePort',
  'attachment',
  'references',
] as const

export interface MachineLimits {
  /** Pages of machine memory. */
  readonly pages: number
  /** Length of a domain's grant table, its reserved entries included. */
  readonly grants: number
  /** Event-channel ports of a domain, port 0 included. */
  readonly ports: number
}

/** Goes through structured clone as it is. */
export interface SharedMachine {
  readonly limits: MachineLimits
  readonly seed: number
  readonly memory: SharedArrayBuffer
  readonly tables: SharedArrayBuffer
}

export class MachineState {
  readonly shared: SharedMachine
  readonly memory: Uint8Array
  /** The tables' buffer: `Table.index` leads into it. */
  readonly words: Int32Array
  readonly lock: MachineLock
  readonly random: SeededRandom
  readonly header: Table<(typeof header)[number]>
  readonly domains: Table<(typeof domain)[number]>
  readonly attachments: Table<(typeof attachment)[number]>
  readonly frames: Table<(typeof frame)[number]>
  readonly maptrack: Table<(typeof mapping)[number]>
  /** The ports of all domains; a domain's begin at `slot(domid) * limits.ports`. */
  readonly ports: Table<(typeof port)[number]>
  /**
   * First byte of the grant tables in the tables' buffer; a domain's begins `slot(domid) *
   * limits.grants` entries later.
   */
  readonly grantTables: number

  static create(limits: MachineLimits, seed: number): MachineState {
    const { byteLength } = layOut(new Int32Array(0), limits)
    const memory = new SharedArrayBuffer(limits.pages * PAGE_SIZE)
    const state = new MachineState({
      limits,
      seed,
      memory,
      tables: new SharedArrayBuffer(byteLength),
    })
    state.header.set(0, 'random', seed)
    // Frame 0 is never handed out: offset 0 of the arena is nobody's page.
    state.header.set(0, 'nextFrame', 1)
    return state
  }

  constructor(shared: SharedMachine) {
    this.shared = shared
    this.memory = new Uint8Array(shared.memory)
    this.words = new Int32Array(shared.tables)
    const tables = layOut(this.words, shared.limits)
    this.header = tables.header
    this.domains = tables.domains
    this.attachments = tables.attachments
    this.frames = tables.frames
    this.maptrack = tables.maptrack
    this.ports = tables.ports
    this.grantTables = tables.grantTables
    this.lock = new MachineLock(this.words, this.header.index(0, 'lock'))
    this.random = new SeededRandom(this.words, this.header.index(0, 'random'))
  }

  slot(domid: number): number {
    return domid % DOMAINS
  }

  isAlive(domid: number): boolean {
    return this.domains.get(this.slot(domid), 'owner') === domid + 1
  }

  /** @returns the new domain's id. @throws Error when no slot is free. */
  addDomain(): number {
    const next = this.header.get(0, 'nextDomid')
    for (let domid = next; domid <= Math.min(next + DOMAINS - 1, DOMID_MAX); domid++) {
      if (this.domains.get(this.slot(domid), 'owner') !== 0) continue
      this.domains.set(this.slot(domid), 'owner', domid + 1)
      this.header.set(0, 'nextDomid', domid + 1)
      return domid
    }
    throw new Error(`a machine has room for ${DOMAINS} domains at once: destroy one first`)
  }

  /** Domids of the domains that exist. */
  domids(): number[] {
    return ownersOf(this.domains).map(([, domid]) => domid)
  }
}

/** Any of the tables whose rows belong to a domain. */
interface Owned {
  readonly rows: number
  get(row: number, field: 'owner'): number
}

/** Used rows of a table, as [row, domid]. */
export function ownersOf(table: Owned): [row: number, domid: number][] {
  const owners: [number, number][] = []
  for (let row = 0; row < table.rows; row++) {
    const owner = table.get(row, 'owner')
    if (owner !== 0) owners.push([row, owner - 1])
  }
  return owners
}

function layOut(words: Int32Array, limits: MachineLimits) {
  let base = 0
  const table = <Field extends string>(rows: number, fields: readonly Field[]) => {
    const laid = new Table(words, { base, rows, fields })
    base += rows * fields.length
    return laid
  }
  return {
    header: table(1, header),
    domains: table(DOMAINS, domain),
    attachments: table(ATTACHMENTS, attachment),
    frames: table(limits.pages, frame),
    maptrack: table(MAPTRACK, mapping),
    ports: table(DOMAINS * limits.ports, port),
    grantTables: base * 4,
    byteLength: base * 4 + DOMAINS * limits.grants * grant_entry_v1.size,
  }
}
