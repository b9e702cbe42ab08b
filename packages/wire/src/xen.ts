/**
 * Domain ids and event-channel ports with a meaning of their own. Follows xen/include/public/xen.h
 * and event_channel.h.
 */

/** Domains have ids below this one. */
export const DOMID_FIRST_RESERVED = 0x7ff0
/** The calling domain itself, whatever its id. */
export const DOMID_SELF = 0x7ff0
/** No domain: an id that isn't known. */
export const DOMID_INVALID = 0x7ff4
/** Whichever domain: in permissions of a xenstore node. */
export const DOMID_ANY = 0x7ff5

/** Port 0 is never handed out. */
export const EVTCHN_PORT_INVALID = 0
/** Ports of a domain with the FIFO interface, which has the most: 2^17. */
export const EVTCHN_FIFO_NR_CHANNELS = 1 << 17
