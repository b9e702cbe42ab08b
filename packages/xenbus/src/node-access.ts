/** Nodes that may hold anything, or be out of sight; and many of them at once. */
import { NegotiationError, XenstoreError } from '@xenkit/hypervisor'
import type { XenstoreView } from '@xenkit/xenstore-client'
import type { NodeValues } from './nodes.ts'

/**
 * What a node of the own directory holds, or `fallback` for what isn't a value of its type: an
 * administrator may have written it.
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
 * A node of the other side, or undefined where that side is gone. Only domain 0 is told so: to
 * another domain a directory that was removed, or is hidden by its owner, is one that it may not
 * look into.
 */
export async function ofOtherEnd<T>(read: Promise<T>): Promise<T | undefined> {
  try {
    return await read
  } catch (error) {
    if (error instanceof XenstoreError && error.errno === 'EACCES') return undefined
    throw error
  }
}

export async function writeNodes(
  view: XenstoreView,
  path: string,
  nodes: NodeValues,
): Promise<void> {
  await Promise.all(
    Object.entries(nodes).map(([name, value]) => view.write(`${path}/${name}`, value)),
  )
}
