/** A machine with a backend's and a frontend's domain. */
import { GrantError } from '@xenkit/hypervisor'
import { createMachine, type MachineOptions } from '../../src/index.ts'

export function twoDomains(o: MachineOptions = {}) {
  const machine = createMachine(o)
  const back = machine.createDomain()
  const front = machine.createDomain()
  return { machine, back, front, [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose]() }
}

/** Time enough for every event that is under way in this thread. */
export const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 10))

/** The status with which `call` fails; 0 if it doesn't. */
export function statusOf(call: () => unknown): unknown {
  try {
    call()
    return 0
  } catch (error) {
    if (error instanceof GrantError) return error.details['status']
    throw error
  }
}
