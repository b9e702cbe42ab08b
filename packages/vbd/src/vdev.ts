/**
 * Names of virtual block devices and their numbers, the `devid` in xenstore paths
 * (xen-vbd-interface.7): `xvda` is 51712, `hda` 768, `sda` 2048, `xvdq` and up 2^28 + disk * 256.
 */

const DEVID_MAX = 2 ** 28 + 2 ** 20 * 256 - 1
const FAMILIES = {
  /**
   * Major 202, 16 minors a disk. Disks from 16 on, and partitions from 16 on, use the extended
   * scheme.
   */
  xvd: {
    disks: 2 ** 20,
    partitions: 255,
    devid: (disk: number, part: number) =>
      disk < 16 && part < 16 ? (202 << 8) | (disk << 4) | part : 2 ** 28 + disk * 256 + part,
  },
  /** Major 3 for a and b, 22 for c and d. */
  hd: {
    disks: 4,
    partitions: 63,
    devid: (disk: number, part: number) => ((disk < 2 ? 3 : 22) << 8) | ((disk & 1) << 6) | part,
  },
  /** Major 8. */
  sd: {
    disks: 16,
    partitions: 15,
    devid: (disk: number, part: number) => (8 << 8) | (disk << 4) | part,
  },
} as const

/**
 * Converts a device name to its devid.
 *
 * @param name `xvda`, `xvdaa`, `xvda1`, `hdc`, `sdb`, or a decimal devid
 * @throws RangeError for anything else
 */
export function parseVdev(name: string): number {
  if (/^\d{1,9}$/.test(name)) {
    const devid = Number(name)
    if (devid <= DEVID_MAX) return devid
  }
  const match = /^(xvd|hd|sd)([a-z]{1,5})(\d{0,3})$/.exec(name)
  const [, prefix, letters, digits] = match ?? []
  if (letters !== undefined && (prefix === 'xvd' || prefix === 'hd' || prefix === 'sd')) {
    const family = FAMILIES[prefix]
    const disk = [...letters].reduce((n, letter) => n * 26 + letter.charCodeAt(0) - 96, 0) - 1
    const partition = Number(digits)
    if (disk < family.disks && partition <= family.partitions && !digits?.startsWith('0')) {
      return family.devid(disk, partition)
    }
  }
  throw new RangeError(
    `"vdev" expected a name like xvda, hda or sda1, or a devid 0..${DEVID_MAX}, got "${name}"`,
  )
}

/**
 * The device name of a devid, or the number itself if it has no name. `parseVdev` converts either
 * back.
 */
export function vdevName(devid: number): string {
  const [major, minor] = [devid >> 8, devid & 255]
  const [disk, partition] = [(devid >> 4) & 15, devid & 15]
  const extended = (devid - 2 ** 28) >> 8
  // In the extended scheme, disks and partitions below 16 have no name: the plain scheme has
  // theirs.
  if (devid >= 2 ** 28 && devid <= DEVID_MAX && (extended >= 16 || minor >= 16)) {
    return `xvd${letters(extended)}${part(minor)}`
  }
  if (major === 202) return `xvd${letters(disk)}${part(partition)}`
  if (major === 8) return `sd${letters(disk)}${part(partition)}`
  if ((major === 3 || major === 22) && minor < 128) {
    return `hd${letters((minor >> 6) + (major === 22 ? 2 : 0))}${part(minor & 63)}`
  }
  return String(devid)
}

const part = (n: number): string => (n === 0 ? '' : String(n))

function letters(disk: number): string {
  const last = String.fromCharCode(97 + (disk % 26))
  return disk < 26 ? last : letters(Math.floor(disk / 26) - 1) + last
}
