/** Compiles C against Xen's public headers, for tests that compare TypeScript with C. */
import { execFileSync, spawnSync } from 'node:child_process'

/**
 * Says why C can't be compiled on this machine; undefined if it can.
 * @throws on CI, which must be able to compile
 */
export function whyNoXenC(): string | undefined {
  const gcc = spawnSync('gcc', ['-fsyntax-only', '-x', 'c', '-'], {
    input: '#include <stdint.h>\n#include <xen/xen.h>\n#include <xen/io/ring.h>\n',
    encoding: 'utf8',
    timeout: 30_000,
  })
  if (gcc.status === 0) return undefined
  const reason = gcc.error
    ? `gcc can't be run: ${gcc.error.message}`
    : "Xen's headers aren't installed (Debian: libxen-dev)"
  if (process.env['CI'] === 'true') {
    throw new Error(`${reason}, but CI=true needs the comparison with C`)
  }
  return reason
}

/**
 * Compiles C source to the file `output`.
 * @throws with the compiler's messages if the source doesn't compile
 */
export function compileC(source: string, output: string, ...flags: string[]): void {
  execFileSync(
    'gcc',
    ['-Wall', '-Wextra', '-Werror', '-std=gnu11', '-O2', ...flags, source, '-o', output],
    { timeout: 60_000 },
  )
}
