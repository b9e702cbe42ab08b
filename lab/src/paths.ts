/** Paths on the host. */
import { homedir } from 'node:os'
import { join } from 'node:path'

export const repository = join(import.meta.dirname, '../..')
export const lab = join(repository, 'lab')

/** Debian packages and built images. It may be deleted at any time. */
export const cache =
  process.env['XENKIT_LAB_CACHE'] ??
  join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'xenkit-lab')

/** Logs of each scenario, kept after a run. */
export const output = join(lab, 'out')
