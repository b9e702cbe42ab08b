/** Compiles the lab's own programs, which run in dom0 and in guests. */
import { command } from '../process.ts'

/** Compiles a C file to a program that needs no library of the tree it is in. */
export async function compile(source: string, target: string): Promise<void> {
  await command('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-static', '-o', target, source])
}
