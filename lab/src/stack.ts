/** The stacks that a scenario can run on: a Debian release and a type of guest. */
import type { Debian } from './image/debian.ts'

/**
 * The way a guest is virtualised. `pv` uses hypercalls for everything privileged; `pvh` uses
 * hardware virtualisation without emulated devices.
 */
export type GuestType = 'pv' | 'pvh'

export interface Stack {
  /** The release that provides Xen, dom0 and the guests' kernel. */
  readonly debian: Debian
  /** Default type of guests. */
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
