/** A backend and a frontend on one simulated machine, which must be quiescent at the end. */
import type { GrantRef } from '@xenkit/hypervisor'
import { createMachine } from '@xenkit/sim'

export function twoDomains() {
  const machine = createMachine()
  const back = machine.createDomain()
  const front = machine.createDomain()
  return {
    back,
    front,
    refs: (grefs: Iterable<number>): GrantRef[] =>
      [...grefs].map((gref) => ({ domid: front.domid, gref })),
    [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose](),
  }
}

/**
 * A grant reference that the frontend has never granted: it is one of the table's reserved entries.
 */
export const UNGRANTED = 5
