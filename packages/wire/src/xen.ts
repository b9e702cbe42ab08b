/**
 * Special domain ids and event-channel ports. Follows xen/include/public/xen.h and event_channel.h.
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
