/** Reading a `state` node, one's own or the other side's. */
import { NegotiationError, XenstoreError } from '@xenkit/hypervisor'
import { XenbusState } from '@xenkit/wire'
import type { XenstoreReader } from '@xenkit/xenstore-client'

/** @returns undefined for what isn't one of the states of xenbus.h */
export const parseState = (value: string): XenbusState | undefined => Object.values(XenbusState).find((known) => String(known) === value)

/**
 * @param value what the node holds, or undefined where it is absent
 * @throws NegotiationError if it isn't one of the states of xenbus.h
 */
export function readState(node: string, value: string | undefined): XenbusState | undefined {
  if (value === undefined) return undefined
  const state = parseState(value)
  if (state === undefined) throw new NegotiationError(`node "${node}" holds "${value.slice(0, 32)}", expected a xenbus state 0..8`, { node, value, expected: '0..8' })
  return state
}

/**
 * A node of the other side, or undefined where that side is gone. Only domain 0 is told so: to another
 * domain a directory that was removed, or is hidden by its owner, is one that it may not look into.
 */
export async function readOtherEnd(view: XenstoreReader, node: string): Promise<string | undefined> {
  try {
    return await view.readOptional(node)
  } catch (error) {
    if (error instanceof XenstoreError && error.errno === 'EACCES') return undefined
    throw error
  }
}
