/**
 * Package lists for apt, per release. For the host's own release apt uses the host's lists. For any
 * other release the cache has lists, fetched from the same mirrors and checked with Debian's keys.
 * The host's own apt configuration doesn't change.
 */
import { mkdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cache } from '../paths.ts'
import { command } from '../process.ts'
import { HOST, type Release, releases } from './debian.ts'

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
/**
 * The directory to which apt first writes fetched files. So its age is that of the host's last
 * `apt-get update`.
 */
const HOST_UPDATED = '/var/lib/apt/lists/partial'

/**
 * Arguments that make apt install packages of `release`. Its lists are refreshed when the host's
 * are newer.
 */
export async function packageLists(release: Release): Promise<string[]> {
  if (release === HOST) return []
  const root = join(cache, `apt-${release}`)
  const settings = ['-c', join(root, 'apt.conf')]
  const updated = join(root, 'updated')
  const [ours, hosts] = await Promise.all(
    [updated, HOST_UPDATED].map((path) =>
      stat(path).then(
        ({ mtimeMs }) => mtimeMs,
        () => undefined,
      ),
    ),
  )
  if (ours === undefined || hosts === undefined || ours < hosts) {
    await mkdir(join(root, 'lists/partial'), { recursive: true })
    await writeFile(
      join(root, 'sources.list'),
      sourcesOf(await mirrors(), releases[release].codename),
    )
    await writeFile(join(root, 'apt.conf'), configuration(root))
    await command('apt-get', ['-qq', ...settings, 'update'])
    await writeFile(updated, '')
  }
  return settings
}

/**
 * Returns lines `URI RELEASE` for the parts of the host's release: the release itself, its updates
 * and its security updates.
 */
function mirrors(): Promise<string> {
  return command('apt-get', [
    'indextargets',
    '--format',
    '$(SITE) $(CODENAME)',
    'Created-By: Packages',
    'Origin: Debian',
    'Component: main',
  ])
}

/** Returns the sources.list of another release on the host's mirrors. */
export function sourcesOf(mirrors: string, codename: string): string {
  const hosts = releases[HOST].codename
  const lines = [...mirrors.matchAll(/^(\S+) (\S+)$/gm)].flatMap(([, uri, release]) =>
    release?.startsWith(hosts)
      ? `deb [target=Packages signed-by=${KEYRING}] ${uri} ${release.replace(hosts, codename)} main\n`
      : [],
  )
  if (lines.length === 0) {
    throw new Error(
      `apt knows no mirror of Debian ${HOST}: the host is another system, or "apt-get update" never ran`,
    )
  }
  return [...new Set(lines)].join('')
}

/**
 * Returns an apt configuration without the host's hooks, because updating the lab's lists must not
 * trigger what the host does after its own updates.
 */
function configuration(root: string): string {
  return `#clear APT::Update;
APT::Update::Error-Mode "any";
APT::Sandbox::User "";
Dir::Etc::sourcelist "${join(root, 'sources.list')}";
Dir::Etc::sourceparts "-";
Dir::State::lists "${join(root, 'lists')}";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
`
}
