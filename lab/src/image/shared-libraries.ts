/** Copies programs from one tree to another, together with the shared libraries they need. */
import { access, cp, mkdir, realpath, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { command } from '../process.ts'

const LIBRARIES = 'lib/x86_64-linux-gnu'

/**
 * Prepares a tree for dynamically linked programs, whose interpreter is
 * `/lib64/ld-linux-x86-64.so.2`.
 */
export async function linkInterpreter(tree: string): Promise<void> {
  await symlink(LIBRARIES, join(tree, 'lib64'))
}

/** Copies `program`, a path within the tree, and every library it needs. */
export async function copyProgram(
  o: { readonly from: string; readonly to: string },
  program: string,
): Promise<void> {
  const pending = [program]
  const copied = new Set<string>()
  for (let file = pending.pop(); file !== undefined; file = pending.pop()) {
    if (copied.has(file)) continue
    copied.add(file)
    const source = await realpath(join(o.from, file))
    await mkdir(dirname(join(o.to, file)), { recursive: true })
    await cp(source, join(o.to, file))
    for (const name of neededBy(
      await command('readelf', ['--dynamic', '--program-headers', '--wide', source]),
    )) {
      pending.push(await findLibrary(o.from, name))
    }
  }
}

/** Returns the libraries and the interpreter that the output of `readelf` lists. */
export function neededBy(readelf: string): string[] {
  const libraries = [...readelf.matchAll(/\(NEEDED\)\s+Shared library: \[(.+?)\]/g)]
  const interpreter = [...readelf.matchAll(/Requesting program interpreter: \/lib64\/(.+?)\]/g)]
  return [...libraries, ...interpreter].flatMap(([, name]) => name ?? [])
}

async function findLibrary(tree: string, name: string): Promise<string> {
  const path = join(LIBRARIES, name)
  await access(join(tree, path)).catch(() => {
    throw new Error(`"${name}" isn't in the packages of the image`)
  })
  return path
}
