/** Builds all of a benchmark's programs in a folder, in C and in TypeScript. */
import { readdir } from 'node:fs/promises'
import { join, parse } from 'node:path'
import { bundle, command } from '@xenkit/lab'

export interface BuildOptions {
  /** The folder for the built programs. */
  readonly directory: string
  /** Linker arguments for the C programs, such as `-lxenstore`. */
  readonly libraries: readonly string[]
}

/**
 * Builds each program. TypeScript is bundled, as in a published package: with tsx, which names
 * functions at run time, the same code would take 1.6 times as long.
 * @returns the command line of each program, without its arguments
 */
export async function buildPrograms(
  folder: string,
  { directory, libraries }: BuildOptions,
): Promise<Map<string, readonly string[]>> {
  const commands = new Map<string, readonly string[]>()
  const bundled: Record<string, string> = {}
  for (const file of await readdir(folder)) {
    const { name, ext } = parse(file)
    const [source, target] = [join(folder, file), join(directory, name)]
    if (ext === '.ts') {
      bundled[name] = source
      commands.set(name, [process.execPath, '--expose-gc', `${target}.mjs`])
    } else if (ext === '.c') {
      await command('gcc', [
        '-O2',
        '-Wall',
        '-Wextra',
        '-Werror',
        '-o',
        target,
        source,
        ...libraries,
      ])
      commands.set(name, [target])
    }
  }
  await bundle(bundled, directory)
  return commands
}
