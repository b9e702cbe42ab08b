/** Where things are, on the host and in dom0. */
import { homedir } from 'node:os'
import { join } from 'node:path'

export const repository = join(import.meta.dirname, '../..')
export const lab = join(repository, 'lab')

/** Debian packages and built images. Safe to delete at any time. */
export const cache =
  process.env['XENKIT_LAB_CACHE'] ??
  join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'xenkit-lab')

/** What a run leaves behind for reading: the logs of each scenario. */
export const output = join(lab, 'out')
