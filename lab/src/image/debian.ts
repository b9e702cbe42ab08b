/** The releases of Debian whose Xen and Linux the lab boots. */

export const releases = {
  12: { codename: 'bookworm', xen: '4.17', linux: '6.1' },
  13: { codename: 'trixie', xen: '4.20', linux: '6.12' },
} as const

export type Debian = keyof typeof releases

/** The host's own. */
export const HOST = 12 satisfies Debian
