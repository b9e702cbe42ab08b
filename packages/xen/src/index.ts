export { discardRange } from './discard.ts'
export { openXen, type OpenXenOptions } from './open-xen.ts'
export { probeXen, type XenCheck, type XenProbe } from './probe-xen.ts'
export { xenstoreSocket } from './xenstored-socket.ts'
