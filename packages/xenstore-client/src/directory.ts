/** Names of a node's children: one answer, or as many parts as it takes. */
import { XenstoreError } from '@xenkit/hypervisor'
import { XS } from '@xenkit/wire'
import { isRefusal } from './errors.ts'
import { strings } from './text.ts'

type Ask = (
  type: number,
  decode: (payload: Uint8Array) => string[],
  more?: string,
) => Promise<string[]>

/** Beginnings, for a directory that changes while it is read. */
const ATTEMPTS_MAX = 20

/**
 * @throws XenstoreError EAGAIN if the directory, too large for one answer, changes faster than it
 * can be read
 */
export async function listDirectory(path: string, ask: Ask): Promise<string[]> {
  try {
    return await ask(XS.DIRECTORY, strings)
  } catch (error) {
    if (!isRefusal(error, 'E2BIG')) throw error
  }
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const names = await listParts(ask)
    if (names) return names
  }
  throw new XenstoreError(
    `xenstore DIRECTORY_PART "${path}": EAGAIN (it changed ${ATTEMPTS_MAX} times while it was read)`,
    { errno: 'EAGAIN', attempts: ATTEMPTS_MAX },
  )
}

/**
 * A part is the node's generation and then names; an empty one is the end. @returns undefined if
 * the node changed
 */
async function listParts(ask: Ask): Promise<string[] | undefined> {
  const names: string[] = []
  let generation: string | undefined
  for (let offset = 0; ;) {
    const [current, ...part] = await ask(XS.DIRECTORY_PART, strings, `${offset}\0`)
    if (current === undefined || part.length === 0) {
      throw new XenstoreError('xenstore DIRECTORY_PART: EIO (the answer has no names)', {
        errno: 'EIO',
      })
    }
    generation ??= current
    if (current !== generation) return undefined
    for (const name of part) {
      if (name === '') return names
      names.push(name)
      offset += name.length + 1 // names are ASCII
    }
  }
}
