/** Lists a node's children: in one reply, or in parts when one reply can't hold them. */
import { XenstoreError } from '@xenkit/hypervisor'
import { XS } from '@xenkit/wire'
import { isRefusal } from './errors.ts'
import { strings } from './text.ts'

type Ask = (
  type: number,
  decode: (payload: Uint8Array) => string[],
  more?: string,
) => Promise<string[]>

/** Times that a listing in parts is restarted because the directory changed. */
const ATTEMPTS_MAX = 20

/**
 * Lists the names of a node's children.
 * @throws XenstoreError EAGAIN if the directory needs parts and changes faster than it can be read
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
 * Reads all parts. A part is the node's generation and then names; an empty name ends the list.
 * @returns undefined if the node changed meanwhile
 */
async function listParts(ask: Ask): Promise<string[] | undefined> {
  const names: string[] = []
  let generation: string | undefined
  for (let offset = 0; ;) {
    const [current, ...part] = await ask(XS.DIRECTORY_PART, strings, `${offset}\0`)
    if (current === undefined || part.length === 0) {
      throw new XenstoreError('xenstore DIRECTORY_PART: EIO (the reply holds no names)', {
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
