/**
 * Programs for dom0, each bundled from its TypeScript source into one file. They lie together in the
 * folder that dom0 has as /lab/programs, which is on its PATH: `NAME` starts a program as if installed.
 */
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { build } from 'tsup'
import { repository } from './paths.ts'

/** Name of each program: its source, from the root of the repository. */
export type Programs = Readonly<Record<string, string>>

const agent = { agent: 'lab/dom0/agent/main.ts' }
const addon = join(repository, 'native/xenkit.linux-x64-gnu.node')

export async function bundlePrograms(programs: Programs, directory: string): Promise<void> {
  const entry = { ...programs, ...agent }
  await mkdir(directory, { recursive: true })
  await build({
    config: false,
    silent: true,
    entry: Object.fromEntries(Object.entries(entry).map(([name, source]) => [name, join(repository, source)])),
    outDir: directory,
    tsconfig: join(repository, 'tsconfig.json'),
    format: 'esm',
    target: 'node20',
    platform: 'node',
    splitting: false,
    noExternal: [/./],
    outExtension: () => ({ js: '.mjs' }),
    // CommonJS dependencies in a bundle call `require` for Node's own modules.
    banner: { js: "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);" },
    esbuildOptions: (options) => {
      options.conditions = ['xenkit-source', 'node', 'import', 'default']
    },
  })
  // The loader of @xenkit/native looks beside itself, and bundled it is in the same folder.
  if (existsSync(addon)) await copyFile(addon, join(directory, basename(addon)))
  for (const name of Object.keys(entry)) {
    const command = join(directory, name)
    await writeFile(command, `#!/bin/sh\nexec node /lab/programs/${name}.mjs "$@"\n`)
    await chmod(command, 0o755)
  }
}
