/** A simulated Xen: domains, grant tables, event channels and xenstored within one process. */
export type { ArenaLimits } from './arena-room.ts'
export { attachDomain, type DomainHandle, SimDomain } from './domain.ts'
export type { MachineLimits } from './machine-state.ts'
export { createMachine, type DomainOptions, type MachineOptions, SimMachine } from './machine.ts'
export { Xenstored, type XenstoredOptions, type XenstoreReceiver } from './xenstored/index.ts'
