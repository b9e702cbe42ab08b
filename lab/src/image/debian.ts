/** The Debian releases whose packages the lab's images are made of. */

export const releases = {
  11: { codename: 'bullseye', linux: '5.10' },
  12: { codename: 'bookworm', linux: '6.1', xen: '4.17' },
  13: { codename: 'trixie', linux: '6.12', xen: '4.20' },
} as const

export type Release = keyof typeof releases

/**
 * The release whose kernel is in every image, for guests only. Xen and dom0 are of a newer release.
 */
export const OLDEST = 11 satisfies Release

/** The releases that have their own image with Xen, dom0 and guests. */
export type Debian = Exclude<Release, typeof OLDEST>

/** The release of the host. */
export const HOST = 12 satisfies Debian
