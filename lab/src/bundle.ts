/** Programs bundled from their TypeScript sources, as published packages are. */
import { existsSync } from 'node:fs'
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'tsup'
import { repository } from './paths.ts'

/** Name of each program: its source, from the root of the repository. */
export type Programs = Readonly<Record<string, string>>

const addon = join(repository, 'native/xenkit.linux-x64-gnu.node')

/** Makes NAME.mjs of each program: one file, which needs nothing beside it but the addon. */
export async function bundle(programs: Programs, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true })
  await build({
    config: false,
    silent: true,
    entry: Object.fromEntries(
      Object.entries(programs).map(([name, source]) => [name, resolve(repository, source)]),
    ),
    outDir: directory,
    tsconfig: join(repository, 'tsconfig.json'),
    format: 'esm',
    target: 'node20',
    platform: 'node',
    splitting: false,
    noExternal: [/./],
    outExtension: () => ({ js: '.mjs' }),
    // CommonJS dependencies in a bundle call `require` for Node's own modules.
    banner: {
      js: "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);",
    },
    esbuildOptions: (options) => {
      options.conditions = ['xenkit-source', 'node', 'import', 'default']
    },
  })
  // The loader of @xenkit/native looks beside itself, and bundled it is in the same folder.
  if (existsSync(addon)) await copyFile(addon, join(directory, basename(addon)))
}

/** Modules of xenkit by which it starts threads. */
const threadModules = ['thread', 'ring-thread', 'shared-file-store', 'shared-memory-store'] as const

/**
 * Bundles those modules for the programs of a directory, which becomes the package that they look
 * for them in. They lie beside the programs, whose addon is theirs: what threads share by its
 * memory, another copy of it wouldn't find.
 */
export async function bundleThreads(directory: string): Promise<void> {
  await bundle(
    Object.fromEntries(
      threadModules.map((name) => [name, fileURLToPath(import.meta.resolve(`xenkit/${name}`))]),
    ),
    directory,
  )
  const exports = Object.fromEntries(threadModules.map((name) => [`./${name}`, `./${name}.mjs`]))
  await writeFile(join(directory, 'package.json'), JSON.stringify({ name: 'xenkit', exports }))
}
