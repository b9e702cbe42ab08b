/** What a scenario can run on. */
import type { Debian } from './image/debian.ts'

/**
 * What a guest is to the processor: `pv` calls Xen for everything, `pvh` is a virtual machine
 * without emulated devices.
 */
export type GuestType = 'pv' | 'pvh'

export interface Stack {
  /** Whose Xen, dom0 and guests' kernel. */
  readonly debian: Debian
  /** What guests are unless told otherwise. */
  readonly guests: GuestType
}

export const stacks = {
  'debian12-pv': { debian: 12, guests: 'pv' },
  'debian12-pvh': { debian: 12, guests: 'pvh' },
  'debian13-pv': { debian: 13, guests: 'pv' },
  'debian13-pvh': { debian: 13, guests: 'pvh' },
} as const satisfies Record<string, Stack>

export type StackName = keyof typeof stacks

export function isStackName(name: string): name is StackName {
  return Object.hasOwn(stacks, name)
}
