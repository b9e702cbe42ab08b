/** Helpers for tests on a machine with two domains, `back` and `front`. */
import { GrantError } from '@xenkit/hypervisor'
import { createMachine, type MachineOptions } from '../../src/index.ts'

export function twoDomains(o: MachineOptions = {}) {
  const machine = createMachine(o)
  const back = machine.createDomain()
  const front = machine.createDomain()
  return { machine, back, front, [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose]() }
}

/** Waits until every event in flight in this thread has been delivered. */
export const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 10))

/** Returns the status with which `call` fails, or 0. */
export function statusOf(call: () => unknown): unknown {
  try {
    call()
    return 0
  } catch (error) {
    if (error instanceof GrantError) return error.status
    throw error
  }
}
