/**
 * What real frontends write and do, read from their sources. Each table says in which order nodes
 * are written and how the rings are used, as far as a backend sees it.
 */
import type { FrontendTable, Write } from './hand-front.ts'

/** Nodes of several queues, each in a directory. */
const perQueue = (queues: number, names: readonly string[]): string[] =>
  Array.from({ length: queues }, (_, i) => names.map((name) => `queue-${i}/${name}`)).flat()

const on = (...names: readonly string[]): Write[] => names.map((name) => [name, '1'] as const)
const off = (...names: readonly string[]): Write[] => names.map((name) => [name, '0'] as const)

const FULL_RING = 256
const ALL = { checksum4: true, checksum6: true, gso4: true, gso6: true, sg: true }

/** Closing as most do: each side writes Closing, then Closed. */
const CLOSES = [
  [5, [5, 6]],
  [6, [6]],
] as const

const NETFRONT = {
  reads: ['feature-rx-copy', 'multi-queue-max-queues', 'feature-split-event-channels'],
  resets: false,
  waits: true,
  connectsInside: false,
  rx: { pages: FULL_RING, posted: 'before', events: 'next' },
  // Data of a socket buffer starts anywhere in its page.
  tx: { events: 'next', offset: 0x42, slotBytes: 4096 - 0x42 },
  takes: ALL,
  closes: CLOSES,
} as const satisfies Partial<FrontendTable>

/** Features of Linux's netfront, in its order. */
const NETFRONT_FEATURES = on(
  'request-rx-copy',
  'feature-rx-notify',
  'feature-sg',
  'feature-gso-tcpv4',
  'feature-gso-tcpv6',
  'feature-ipv6-csum-offload',
)

/** drivers/net/xen-netfront.c of Linux 5.10: one queue as with one processor, channels split. */
export const LINUX_5_10: FrontendTable = {
  ...NETFRONT,
  name: 'Linux 5.10, one processor',
  queues: 1,
  split: true,
  writes: [
    [['xdp-headroom', '0']],
    [
      ['multi-queue-num-queues', '1'],
      'tx-ring-ref',
      'rx-ring-ref',
      'event-channel-tx',
      'event-channel-rx',
      ...NETFRONT_FEATURES,
    ],
  ],
}

/** The same of current Linux, with four processors. */
export const LINUX: FrontendTable = {
  ...NETFRONT,
  name: 'Linux, four queues',
  queues: 4,
  split: true,
  writes: [
    [['xdp-headroom', '0']],
    [
      ['multi-queue-num-queues', '4'],
      ...perQueue(4, ['tx-ring-ref', 'rx-ring-ref', 'event-channel-tx', 'event-channel-rx']),
      ...NETFRONT_FEATURES,
    ],
  ],
}

/** sys/dev/xen/netfront/netfront.c of FreeBSD 14: no split channels, pages posted late. */
const FREEBSD: FrontendTable = {
  name: 'FreeBSD 14',
  reads: ['multi-queue-max-queues', 'feature-sg', 'feature-gso-tcpv4'],
  resets: false,
  waits: true,
  queues: 4,
  split: false,
  writes: [
    [
      ['multi-queue-num-queues', '4'],
      ...perQueue(4, ['tx-ring-ref', 'rx-ring-ref', 'event-channel']),
      ...on('request-rx-copy', 'feature-rx-notify', 'feature-sg', 'feature-gso-tcpv4'),
    ],
  ],
  connectsInside: false,
  rx: { pages: FULL_RING, posted: 'with', events: 'next' },
  tx: { events: 'half', offset: 0, slotBytes: 2048 },
  takes: { ...ALL, checksum6: false, gso6: false },
  // A reset of the interface: it connects again afterwards.
  closes: [...CLOSES, [1, [2]]],
}

/** The same before multi-queue: all received frames have complete checksums. */
const FREEBSD_9: FrontendTable = {
  ...FREEBSD,
  name: 'FreeBSD 9',
  queues: 1,
  writes: [
    [
      'tx-ring-ref',
      'rx-ring-ref',
      'event-channel',
      ...on('request-rx-copy', 'feature-rx-notify', 'feature-no-csum-offload', 'feature-sg'),
    ],
  ],
  rx: { pages: 64, posted: 'with', events: 'next' },
  takes: { checksum4: false, checksum6: false, gso4: false, gso6: false, sg: true },
  closes: CLOSES,
}

/**
 * sys/arch/xen/xen/if_xennet_xenbus.c of NetBSD: ids run against the slots, pages are posted again
 * only when four fifths of the ring are free, and a frame whose slots aren't all published is lost.
 */
const NETBSD: FrontendTable = {
  name: 'NetBSD',
  reads: ['feature-rx-copy', 'feature-ipv6-csum-offload', 'feature-sg'],
  resets: false,
  waits: true,
  queues: 1,
  split: false,
  writes: [
    [
      ['vifname', 'xennet0'],
      'tx-ring-ref',
      'rx-ring-ref',
      ...on('request-rx-copy', 'feature-rx-notify', 'feature-ipv6-csum-offload', 'feature-sg'),
      'event-channel',
    ],
  ],
  connectsInside: false,
  rx: {
    pages: FULL_RING,
    batch: (FULL_RING * 4) / 5,
    posted: 'before',
    id: (n) => FULL_RING - 1 - (n % FULL_RING),
    events: 'next',
  },
  tx: { events: 'half', offset: 2, slotBytes: 2048 },
  takes: { ...ALL, gso4: false, gso6: false },
  closes: CLOSES,
}

/** sys/dev/pv/if_xnf.c of OpenBSD: node by node, and answers are taken in the ring's order. */
const OPENBSD: FrontendTable = {
  name: 'OpenBSD',
  reads: ['mac', 'feature-sg', 'feature-ipv6-csum-offload'],
  resets: false,
  waits: true,
  queues: 1,
  split: false,
  writes: [
    ['rx-ring-ref'],
    on('request-rx-copy'),
    on('feature-rx-notify'),
    ['tx-ring-ref'],
    on('feature-sg'),
    on('feature-ipv6-csum-offload'),
    ['event-channel'],
  ],
  connectsInside: false,
  rx: { pages: FULL_RING, posted: 'before', events: 'next' },
  tx: { events: 'half', offset: 16, slotBytes: 2048 },
  takes: { ...ALL, gso4: false, gso6: false },
  closes: [],
}

/** src/xenvif of the Windows drivers, with a control ring and Windows' own checksums. */
const WINDOWS: FrontendTable = {
  name: 'Windows',
  reads: ['multi-queue-max-queues', 'feature-split-event-channels', 'feature-ctrl-ring'],
  resets: true,
  waits: true,
  queues: 2,
  split: true,
  writes: [
    [
      ...on('request-rx-copy', 'feature-sg', 'feature-rx-notify'),
      ...on('feature-gso-tcpv4', 'feature-gso-tcpv6'),
      ...off('feature-no-csum-offload'),
      ...on('feature-ipv6-csum-offload'),
      ...perQueue(2, ['rx-ring-ref', 'event-channel-rx']),
      ...perQueue(2, ['tx-ring-ref', 'event-channel-tx']),
      'ctrl-ring-ref',
      'event-channel-ctrl',
      ['multi-queue-num-queues', '2'],
    ],
  ],
  connectsInside: false,
  rx: { pages: FULL_RING, posted: 'with', events: 'next' },
  tx: {
    events: 'next',
    offset: 100,
    slotBytes: 2400,
    // The hash that the card was configured for, and an address of mDNS.
    extra: [4, 0, 1, 1, 0x12, 0x34, 0x56, 0x78],
    dummies: [
      [2, 0, 0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb],
      [3, 0, 0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb],
    ],
  },
  takes: ALL,
  closes: CLOSES,
}

/** netfront.c of Mini-OS: one slot a frame, no feature at all, Connected within the transaction. */
const MINI_OS: FrontendTable = {
  name: 'Mini-OS',
  reads: [],
  resets: false,
  waits: false,
  queues: 1,
  split: false,
  writes: [['tx-ring-ref', 'rx-ring-ref', 'event-channel', ...on('request-rx-copy')]],
  connectsInside: true,
  rx: { pages: FULL_RING, posted: 'before', events: 'next' },
  tx: { events: 'half', offset: 0, slotBytes: 4096 },
  takes: { checksum4: true, checksum6: false, gso4: false, gso6: false, sg: false },
  closes: [...CLOSES, [1, [2]]],
}

/** lib/netif.ml of mirage-net-xen: ids count on over 16 bits, data is in halves of pages. */
export const MIRAGE: FrontendTable = {
  name: 'Mirage',
  reads: [],
  resets: false,
  waits: false,
  queues: 1,
  split: false,
  writes: [
    [
      'tx-ring-ref',
      'rx-ring-ref',
      'event-channel',
      ...on('feature-sg', 'feature-gso-tcpv4', 'request-rx-copy'),
      ...off('feature-rx-flip'),
      ...on('feature-rx-notify'),
      ...off('feature-smart-poll'),
    ],
  ],
  connectsInside: false,
  rx: { pages: FULL_RING, posted: 'after', id: (n) => (65_400 + n) & 0xffff, events: 'next' },
  tx: { events: 'next', offset: 2048, slotBytes: 2048 },
  takes: { ...ALL, checksum6: false, gso6: false },
  closes: [],
}

/** src/drivers/net/netfront.c of iPXE: it polls, posts 18 pages, and closes without Closing. */
const IPXE: FrontendTable = {
  name: 'iPXE',
  reads: [],
  resets: true,
  waits: true,
  queues: 1,
  split: false,
  writes: [
    ['tx-ring-ref'],
    ['rx-ring-ref'],
    ['event-channel'],
    on('request-rx-copy'),
    on('feature-sg'),
    on('feature-no-csum-offload'),
    on('feature-rx-notify'),
  ],
  connectsInside: false,
  rx: { pages: 18, posted: 'after', id: (n) => n % 32, events: 'never' },
  tx: { events: 'never', offset: 64, slotBytes: 4032 },
  takes: { checksum4: false, checksum6: false, gso4: false, gso6: false, sg: true },
  closes: [
    [6, [6]],
    [1, [2]],
  ],
}

/** All of them. */
export const REAL_FRONTENDS: readonly FrontendTable[] = [
  LINUX_5_10,
  LINUX,
  FREEBSD,
  FREEBSD_9,
  NETBSD,
  OPENBSD,
  WINDOWS,
  MINI_OS,
  MIRAGE,
  IPXE,
]
