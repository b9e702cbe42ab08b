/**
 * The Debian packages an image is made of. apt resolves them as if for an empty machine: its dpkg
 * status file is empty, and nothing is installed on the host.
 */
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cache } from '../paths.ts'
import { command } from '../process.ts'

export const XEN_VERSION = '4.17'

/** Their dependencies come along. */
const wanted = [
  'linux-image-amd64',
  `xen-hypervisor-${XEN_VERSION}-amd64`,
  `xen-utils-${XEN_VERSION}`,
  'xenstore-utils',
  'qemu-system-xen', // qdisk, the backend that ours is compared with
  'qemu-utils', // qemu-nbd
  'busybox-static',
  'bash',
  'coreutils',
  'util-linux',
  'kmod',
  'e2fsprogs',
  'libstdc++6', // node
]

const downloads = join(cache, 'packages')
/** An archive in which nothing lies yet: apt names only packages that it would have to fetch. */
const nothing = join(cache, 'nothing')
const emptyStatus = join(nothing, 'status')

async function apt(archives: string, ...args: string[]): Promise<string> {
  await mkdir(join(archives, 'partial'), { recursive: true })
  await mkdir(nothing, { recursive: true })
  await writeFile(emptyStatus, '')
  // An empty sandbox user: root's apt would otherwise become _apt, who can't write to this cache.
  const settings = [`Dir::State::status=${emptyStatus}`, `Dir::Cache::archives=${archives}`, 'Debug::NoLocking=1', 'APT::Sandbox::User=']
  return command('apt-get', ['-qq', '--yes', '--no-install-recommends', ...settings.flatMap((s) => ['-o', s]), ...args, 'install', ...wanted])
}

/**
 * The files that apt would install today, by their names `NAME_VERSION_ARCH.deb`. Uses the package lists
 * of the last `apt-get update`, no network.
 */
export async function resolvePackages(): Promise<string[]> {
  return parseUris(await apt(nothing, '--print-uris'))
}

/** Reads the lines `'URI' FILE SIZE CHECKSUM` of `apt-get --print-uris`. */
export function parseUris(text: string): string[] {
  return [...text.matchAll(/^'\S+' (\S+) \d+ /gm)].flatMap(([, file]) => file ?? []).toSorted()
}

/** Downloads what isn't here yet, drops what is no longer wanted, and returns the path of each file. */
export async function downloadPackages(files: readonly string[]): Promise<string[]> {
  await apt(downloads, '--download-only')
  const stale = (await readdir(downloads)).filter((name) => name.endsWith('.deb') && !files.includes(name))
  await Promise.all(stale.map((name) => rm(join(downloads, name))))
  return files.map((file) => join(downloads, file))
}

/** Unpacks packages over one another. Maintainer scripts don't run. */
export async function unpack(packages: readonly string[], tree: string): Promise<void> {
  await mkdir(tree, { recursive: true })
  for (const file of packages) await command('dpkg-deb', ['--extract', file, tree])
  for (const unread of ['doc', 'info', 'iso-codes', 'locale', 'man', 'xml']) await rm(join(tree, 'usr/share', unread), { recursive: true, force: true })
}
