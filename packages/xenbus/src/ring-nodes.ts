/**
 * The nodes with which a frontend publishes its rings: the grant references of each ring's pages
 * and the port of its event channel. Their names come from blkif.h and netif.h; other devices
 * follow.
 */
import { NegotiationError, UINT32_MAX, expectInteger } from '@xenkit/hypervisor'
import { type NodeDefinition, type XenstoreReader, defineNodes } from '@xenkit/xenstore-client'
import { lenient, ofOtherEnd } from './node-access.ts'
import type { NodeValues } from './nodes.ts'

/** The nodes of one ring: their directory and names. */
export interface RingNodes {
  /** Directory below the frontend's own, such as `queue-0`. Default: the frontend's own. */
  readonly directory?: string
  /** Name of the node with the grant reference. Default `ring-ref`. */
  readonly ref?: string
  /** Name of the node with the port, which rings may share. Default `event-channel`. */
  readonly port?: string
  /**
   * Pages of the ring as a power of two, 0..4. With an order the references are in numbered nodes,
   * `ring-ref0` and so on, even for a single page. Without one the ring is one page, in `ring-ref`.
   */
  readonly order?: number | undefined
}

/** The nodes of one ring as a frontend published them. */
export interface PublishedRing {
  /** One grant reference per page, in order. */
  readonly grefs: readonly number[]
  readonly port: number
}

/**
 * Directories of a device's queues, as in blkif.h and netif.h: `queue-0` and so on. A single queue
 * has its nodes in the frontend's own directory, which is ''.
 */
export const queueDirectories = (count: number): readonly string[] =>
  count === 1 ? [''] : Array.from({ length: count }, (_, i) => `queue-${i}`)

/**
 * Reads the rings that a frontend publishes.
 *
 * @example
 * const [ring] = await readRings(xs, device.frontendPath, [{}]) // `ring-ref` and `event-channel`
 *
 * @param path the frontend's directory
 * @throws NegotiationError naming the node that is missing, holds no such number, or names a page
 *   or port of another ring: both would serve the same requests
 * @throws RangeError for an order out of range
 */
export async function readRings<const Rings extends readonly RingNodes[]>(
  view: XenstoreReader,
  path: string,
  rings: Rings,
): Promise<{ [Index in keyof Rings]: PublishedRing }> {
  const found = await Promise.all(rings.map((nodes) => new RingTable(nodes).read(view, path)))
  expectDistinct(found.flatMap(({ refs }) => refs))
  expectDistinct(found.map(({ port }) => port))
  const published = found.map(({ refs, port }) => ({
    grefs: refs.map(({ value }) => value),
    port: port.value,
  }))
  return published as { [Index in keyof Rings]: PublishedRing } // one for each of `rings`
}

/**
 * Whether a frontend still publishes the same rings, for `isCurrent` of a `BackendConnection`. True
 * if the nodes can't be read any more: a connected frontend doesn't need them.
 * @param now result of another `readRings`
 */
export async function isStillPublished(
  rings: readonly PublishedRing[],
  now: Promise<readonly PublishedRing[]>,
): Promise<boolean> {
  const published = await lenient(ofOtherEnd(now), undefined)
  return published === undefined || JSON.stringify(published) === JSON.stringify(rings)
}

/**
 * Largest order (log2 of the ring's pages) that Linux's xenbus maps: XENBUS_MAX_RING_GRANT_ORDER.
 */
const MAX_ORDER = 4

const GREF = {
  type: 'decimal',
  max: UINT32_MAX,
  writer: 'frontend',
  meaning: 'grant reference of a page of the ring',
} as const satisfies NodeDefinition
const PORT = {
  type: 'decimal',
  min: 1,
  max: UINT32_MAX,
  writer: 'frontend',
  meaning: 'port that the backend binds to',
} as const satisfies NodeDefinition

/** A number read from a node, and the name of that node. */
interface Found {
  readonly node: string
  readonly value: number
}

/** Reads and formats the nodes of one ring. */
export class RingTable {
  readonly #prefix: string
  readonly #ref: string
  readonly #numbered: `${string}{n}`
  readonly #port: string
  readonly #order: number | undefined
  readonly #nodes

  /** @throws RangeError for an order out of range */
  constructor({ directory = '', ref = 'ring-ref', port = 'event-channel', order }: RingNodes) {
    if (order !== undefined) expectInteger('order', order, 0, MAX_ORDER)
    this.#prefix = directory === '' ? '' : `${directory}/`
    this.#ref = ref
    this.#numbered = `${ref}{n}`
    this.#port = port
    this.#order = order
    this.#nodes = defineNodes({ [ref]: GREF, [this.#numbered]: GREF, [port]: PORT })
  }

  async read(
    view: XenstoreReader,
    path: string,
  ): Promise<{ readonly refs: readonly Found[]; readonly port: Found }> {
    const base = `${path}/${this.#prefix}`
    const directory = base.slice(0, -1)
    const [refs, port] = await Promise.all([
      this.#order === undefined
        ? this.#nodes.readNode(view, directory, this.#ref).then((gref) => [gref])
        : this.#nodes.readFamily(view, directory, this.#numbered, 1 << this.#order),
      this.#nodes.readNode(view, directory, this.#port),
    ])
    const refNode = (i: number): string => this.#ref + (this.#order === undefined ? '' : i)
    return {
      refs: refs.map((value, i) => ({ node: base + refNode(i), value })),
      port: { node: base + this.#port, value: port },
    }
  }

  /** Returns the nodes by name, relative to the frontend's directory. */
  format({ grefs, port }: PublishedRing): NodeValues {
    const refs = this.#order === undefined ? { [this.#ref]: grefs[0] } : { [this.#numbered]: grefs }
    const values = Object.entries(this.#nodes.format({ ...refs, [this.#port]: port }))
    return Object.fromEntries(values.map(([name, value]) => [this.#prefix + name, value]))
  }
}

/**
 * Checks that no two nodes hold the same number. Rings that share a port read the same node for it.
 */
function expectDistinct(all: readonly Found[]): void {
  const holders = new Map<number, string>()
  for (const { node, value } of all) {
    const holder = holders.get(value) ?? node
    if (holder !== node) {
      const expected = `another number than in "${holder}"`
      throw new NegotiationError(`node "${node}" holds "${value}", expected ${expected}`, {
        node,
        value: String(value),
        expected,
      })
    }
    holders.set(value, node)
  }
}
