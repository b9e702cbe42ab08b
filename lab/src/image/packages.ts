/**
 * The Debian packages that an image is made of. apt resolves them as for an empty machine, because
 * its dpkg status file is empty. Nothing is installed on the host.
 */
import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cache } from '../paths.ts'
import { command } from '../process.ts'
import { OLDEST, type Release, releases } from './debian.ts'
import { packageLists } from './package-lists.ts'

/** Programs for dom0, in addition to Xen's tools. */
const programs = [
  'xenstore-utils',
  'qemu-system-xen', // qdisk, the backend that ours is compared with
  'qemu-utils', // for qemu-nbd
  'busybox-static',
  'bash',
  'coreutils',
  'util-linux',
  'kmod',
  'e2fsprogs',
  'iproute2',
  'ethtool',
  'tcpdump',
  'tshark', // reads the captures that xenkit writes
  'passt',
  'libstdc++6', // for Node
]

/** Packages to install; apt adds their dependencies. */
function wanted(release: Release): string[] {
  const kernel = 'linux-image-amd64'
  if (release === OLDEST) return [kernel]
  const { xen } = releases[release]
  return [kernel, `xen-hypervisor-${xen}-amd64`, `xen-utils-${xen}`, ...programs]
}

const downloadsOf = (release: Release): string => join(cache, `packages-${release}`)
/** An empty archive directory: with it apt lists all packages as missing. */
const nothing = join(cache, 'nothing')
const emptyStatus = join(nothing, 'status')

async function apt(release: Release, archives: string, ...args: string[]): Promise<string> {
  await mkdir(join(archives, 'partial'), { recursive: true })
  await mkdir(nothing, { recursive: true })
  await writeFile(emptyStatus, '')
  // Without a sandbox user apt stays root. As user _apt it couldn't write to this cache.
  const settings = [
    `Dir::State::status=${emptyStatus}`,
    `Dir::Cache::archives=${archives}`,
    'Debug::NoLocking=1',
    'APT::Sandbox::User=',
  ]
  const lists = await packageLists(release)
  return command('apt-get', [
    '-qq',
    '--yes',
    '--no-install-recommends',
    ...lists,
    ...settings.flatMap((s) => ['-o', s]),
    ...args,
    'install',
    ...wanted(release),
  ])
}

/**
 * Returns the names of the files that apt would install today, as `NAME_VERSION_ARCH.deb`. Uses the
 * lists of the host's last `apt-get update`, and the network only if another release's lists are
 * older.
 */
export async function resolvePackages(release: Release): Promise<string[]> {
  return parseUris(await apt(release, nothing, '--print-uris'))
}

/** Parses the lines `'URI' FILE SIZE CHECKSUM` of `apt-get --print-uris`. */
export function parseUris(text: string): string[] {
  return [...text.matchAll(/^'\S+' (\S+) \d+ /gm)].flatMap(([, file]) => file ?? []).toSorted()
}

/** Downloads missing files, deletes those no longer wanted, and returns the path of each file. */
export async function downloadPackages(
  release: Release,
  files: readonly string[],
): Promise<string[]> {
  const downloads = downloadsOf(release)
  await apt(release, downloads, '--download-only')
  const stale = (await readdir(downloads)).filter(
    (name) => name.endsWith('.deb') && !files.includes(name),
  )
  await Promise.all(stale.map((name) => rm(join(downloads, name))))
  return files.map((file) => join(downloads, file))
}

/**
 * Unpacks packages into one tree. In the tree, /bin and the like are links into /usr for every
 * release. Maintainer scripts don't run.
 */
export async function unpack(packages: readonly string[], tree: string): Promise<void> {
  for (const name of ['bin', 'lib', 'lib64', 'sbin']) {
    await mkdir(join(tree, 'usr', name), { recursive: true })
    await symlink(join('usr', name), join(tree, name))
  }
  const extract =
    'dpkg-deb --fsys-tarfile "$1" | tar --extract --keep-directory-symlink --directory="$2"'
  for (const file of packages) {
    await command('bash', ['-o', 'pipefail', '-c', extract, 'bash', file, tree])
  }
  for (const unread of ['doc', 'info', 'iso-codes', 'locale', 'man', 'xml']) {
    await rm(join(tree, 'usr/share', unread), { recursive: true, force: true })
  }
}
