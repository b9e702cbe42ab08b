/** Reading a `state` node, one's own or the other side's. */
import { NegotiationError } from '@xenkit/hypervisor'
import { XenbusState } from '@xenkit/wire'

/**
 * @param value what the node holds, or undefined where it is absent
 * @throws NegotiationError if it isn't one of the states of xenbus.h
 */
export function readState(node: string, value: string | undefined): XenbusState | undefined {
  if (value === undefined) return undefined
  const state = Object.values(XenbusState).find((known) => String(known) === value)
  if (state === undefined) throw new NegotiationError(`node "${node}" holds "${value.slice(0, 32)}", expected a xenbus state 0..8`, { node, value, expected: '0..8' })
  return state
}
