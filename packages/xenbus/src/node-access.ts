/** Reads of nodes that may be malformed or inaccessible, and a write of many nodes. */
import { NegotiationError, XenstoreError } from '@xenkit/hypervisor'
import type { XenstoreView } from '@xenkit/xenstore-client'
import type { NodeValues } from './nodes.ts'

/**
 * Returns `fallback` if the read node is malformed (NegotiationError). For nodes of this side's own
 * directory, where an administrator may have written anything.
 * @example
 * const online = await lenient(backendDeviceNodes.readNode(xs, path, 'online'), undefined)
 */
export async function lenient<T>(read: Promise<T>, fallback: T): Promise<T> {
  try {
    return await read
  } catch (error) {
    if (error instanceof NegotiationError) return fallback
    throw error
  }
}

/**
 * Returns undefined if xenstored answers EACCES, for a node of the peer's directory. To any domain
 * but domain 0, xenstored answers EACCES when that directory was removed.
 */
export async function ofOtherEnd<T>(read: Promise<T>): Promise<T | undefined> {
  try {
    return await read
  } catch (error) {
    if (error instanceof XenstoreError && error.errno === 'EACCES') return undefined
    throw error
  }
}

/** Writes nodes into a directory. */
export async function writeNodes(
  view: XenstoreView,
  path: string,
  nodes: NodeValues,
): Promise<void> {
  await Promise.all(
    Object.entries(nodes).map(([name, value]) => view.write(`${path}/${name}`, value)),
  )
}
