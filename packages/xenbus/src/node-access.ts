/** Reads of nodes that may be malformed or out of reach, and writes of many nodes. */
import { NegotiationError, XenstoreError } from '@xenkit/hypervisor'
import type { XenstoreView } from '@xenkit/xenstore-client'
import type { NodeValues } from './nodes.ts'

/**
 * Replaces the NegotiationError of a malformed node by a fallback. For nodes of the own directory,
 * where an administrator may have written anything.
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
 * Replaces EACCES by undefined, for a node of the peer's directory, which may be gone. Only domain
 * 0 sees that a directory was removed; xenstored tells any other domain that it may not read there.
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
