/**
 * The features that the scenario `vif` shows, in the order of docs/features-net.md. A test compares
 * this list with that page, and the scenario fails if it doesn't show one of them.
 */
export const features = [
  'ping',
  'TCP',
  'UDP of all sizes',
  'IPv6',
  'segments of 64 KiB',
  'checksums and segments off',
  'split event channels',
  'rebind',
  'xl network-attach, -detach',
  'detach with traffic',
  'MTU of 9000',
  'vifname',
  'xenkit net attach, list, detach',
  'attach and detach, again and again',
  'rate',
  'switch: two guests',
  'switch: isolation',
  'switch: spoofed frames',
  'switch: VLAN',
  'capture',
  'mirror',
  'filter',
  'passt',
  'several queues',
  'xl save, xl restore',
  'crash with traffic',
] as const

/** Features that are also shown in a guest with Linux 5.10. */
export const featuresOfOldest = [
  'ping',
  'TCP',
  'UDP of all sizes',
  'IPv6',
  'segments of 64 KiB',
  'checksums and segments off',
  'rebind',
  'xl network-attach, -detach',
  'detach with traffic',
] as const satisfies readonly Feature[]

export type Feature = (typeof features)[number]
