/** Identifies an image by a hash over everything it is made from. */
import { createHash } from 'node:crypto'
import { readFile, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

export interface Inputs {
  /** Files, or directories whose files count. */
  readonly files: readonly string[]
  readonly words: readonly string[]
}

/**
 * Returns twelve hex digits, which change when a file's content, a file's name within its
 * directory, or a word changes.
 */
export async function hashInputs({ files, words }: Inputs): Promise<string> {
  const hash = createHash('sha256')
  // Each piece is preceded by its length, so that two different lists never give the same bytes.
  const add = (piece: string | Uint8Array): void => {
    hash.update(`${piece.length}:`).update(piece)
  }
  for (const word of words) add(word)
  for (const root of files) {
    for (const [name, path] of await filesBelow(root)) {
      add(name)
      add(await readFile(path))
    }
  }
  return hash.digest('hex').slice(0, 12)
}

async function filesBelow(root: string): Promise<Array<[name: string, path: string]>> {
  if ((await stat(root)).isFile()) return [['', root]]
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
  return paths.toSorted().map((path) => [path.slice(root.length), path])
}
