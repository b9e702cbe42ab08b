/**
 * The state that all threads of a machine share: memory, and the tables that hypercalls work on.
 * The tables are in a separate buffer, as in Xen: no stray write to a page can reach them.
 */
import { DOMID_MAX, PAGE_SIZE } from '@xenkit/hypervisor'
import { grant_entry_v1 } from '@xenkit/wire'
import { MachineLock } from './machine-lock.ts'
import { SeededRandom } from './seeded-random.ts'
import { Table } from './table.ts'

/** Most domains at one time. Domids are not reused, so a domain's slot is its domid modulo this. */
const DOMAINS = 64
/** Most threads attached to domains at one time. */
const ATTACHMENTS = 256
/** Most pages mapped at one time, over all domains. */
const MAPTRACK = 16_384

/**
 * `mapped`: rows of the maptrack in use.
 * `stored...`: the first write that a domain made through a read-only mapping. They say which
 * domain
 *   wrote (domid + 1; 0 if no domain has), and to which byte of which grant.
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
/**
 * `owner`, here and in the tables below, is a domid + 1; 0 means a free row.
 * `xenstorePort` is the port of the domain's xenstore ring, 0 if it has none.
 */
const domain = ['owner', 'grants', 'ports', 'xenstorePort'] as const
/** `upcall` is raised when a port of the attached thread has an event. */
const attachment = ['owner', 'upcall'] as const
/** `view` is 1 for a frame that holds the copy which a read-only mapping shows. */
/**
 * `maps`: read-only mappings + 65536 * writable ones. `clearByte` (offset + 1) and `notifyPort`: a
 *   share's UnmapNotify, at its first frame.
 */
const frame = ['owner', 'orphan', 'maps', 'clearByte', 'notifyPort', 'view'] as const
/**
 * A page that `owner` maps. The row of a mapping's first page holds the fields of the whole
 * mapping.
 */
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
 * `attachment`: the thread that receives its events. A port that the toolstack opened has one only
 *   while adopted, and is masked otherwise.
 * `references`: its binding, and unmap notifications that will use it. The last one frees it.
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

/** Sizes of a machine. */
export interface MachineLimits {
  /** Pages of machine memory. */
  readonly pages: number
  /** Entries of a domain's grant table, including the reserved ones. */
  readonly grants: number
  /** Event-channel ports of a domain, including port 0. */
  readonly ports: number
}

/** Handle of a machine's state, which structured clone can copy. */
export interface SharedMachine {
  readonly limits: MachineLimits
  readonly seed: number
  readonly memory: SharedArrayBuffer
  readonly tables: SharedArrayBuffer
}

/** One thread's access to the shared state. */
export class MachineState {
  readonly shared: SharedMachine
  readonly memory: Uint8Array
  /** The tables' buffer, which `Table.index` refers to. */
  readonly words: Int32Array
  readonly lock: MachineLock
  readonly random: SeededRandom
  readonly header: Table<(typeof header)[number]>
  readonly domains: Table<(typeof domain)[number]>
  readonly attachments: Table<(typeof attachment)[number]>
  readonly frames: Table<(typeof frame)[number]>
  readonly maptrack: Table<(typeof mapping)[number]>
  /** The ports of all domains; a domain's start at `slot(domid) * limits.ports`. */
  readonly ports: Table<(typeof port)[number]>
  /**
   * Offset of the grant tables in the tables' buffer; a domain's starts `slot(domid) *
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
    // Frame 0 is never allocated: offset 0 of the arena belongs to nobody.
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

  /**
   * Adds a domain.
   * @returns its id
   * @throws Error when no slot is free
   */
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

  /** Ids of the domains that exist. */
  domids(): number[] {
    return ownersOf(this.domains).map(([, domid]) => domid)
  }
}

/** A table in which each row in use belongs to a domain. */
interface Owned {
  readonly rows: number
  get(row: number, field: 'owner'): number
}

/** Returns the rows in use, as [row, domid]. */
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
