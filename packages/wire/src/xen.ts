/**
 * Special domain ids, event-channel ports and virtual interrupts. Follows xen/include/public/xen.h
 * and event_channel.h.
 */

/** Ids of real domains are below this one. */
export const DOMID_FIRST_RESERVED = 0x7ff0
/** The calling domain itself. */
export const DOMID_SELF = 0x7ff0
/** No domain, or an unknown one. */
export const DOMID_INVALID = 0x7ff4
/** Any domain, in permissions of a xenstore node. */
export const DOMID_ANY = 0x7ff5

/** Port 0 is never allocated. */
export const EVTCHN_PORT_INVALID = 0
/** Most ports of a domain: 2^17, with the FIFO interface. */
export const EVTCHN_FIFO_NR_CHANNELS = 1 << 17

/**
 * Virtual interrupts: events that Xen itself sends. A global one goes to a single domain: domain 0,
 * unless the toolstack names another.
 */
export const VIRQ = {
  /** Per VCPU: a timer set by the guest has expired. */
  TIMER: 0,
  /** Per VCPU: asks the guest to print its state, for debugging. */
  DEBUG: 1,
  /** Global: the emergency console has input. */
  CONSOLE: 2,
  /**
   * Global: a domain has shut down, crashed or been destroyed. Usually xenstored binds this one.
   */
  DOM_EXC: 3,
  /** Global: the trace buffer has records. */
  TBUF: 4,
  /** Global: a domain is paused for its debugger. */
  DEBUGGER: 6,
  /** Per VCPU: a profiler's sample is ready. */
  XENOPROF: 7,
  /** Global: Xen's console ring has new output. */
  CON_RING: 8,
  /** Global: a physical CPU went online or offline. */
  PCPU_STATE: 9,
  /** Global: an event about a domain's memory. */
  MEM_EVENT: 10,
  /** Per domain: an Argo message has arrived. */
  ARGO: 11,
  /** Global: Xen's heap runs low. */
  ENOMEM: 12,
  /** Per VCPU: an interrupt of the performance counters. */
  XENPMU: 13,
  /**
   * Global. ARCH_0 to ARCH_7 depend on the machine's architecture; on x86, ARCH_0 is a machine
   * check.
   */
  ARCH_0: 16,
  ARCH_1: 17,
  ARCH_2: 18,
  ARCH_3: 19,
  ARCH_4: 20,
  ARCH_5: 21,
  ARCH_6: 22,
  ARCH_7: 23,
} as const

/** Number of virtual interrupts: they are below this. Numbers 5, 14 and 15 have no meaning. */
export const NR_VIRQS = 24
