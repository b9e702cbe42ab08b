/** Bundles programs from their TypeScript sources, in the way published packages are built. */
import { existsSync } from 'node:fs'
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'tsup'
import { repository } from './paths.ts'

/** Maps the name of each program to its source's path from the repository's root. */
export type Programs = Readonly<Record<string, string>>

const addon = join(repository, 'native/xenkit.linux-x64-gnu.node')

/** Writes each program as NAME.mjs: one file, which needs no other file except the native addon. */
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
    // Bundled CommonJS dependencies call `require` for Node's own modules.
    banner: {
      js: "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);",
    },
    esbuildOptions: (options) => {
      options.conditions = ['xenkit-source', 'node', 'import', 'default']
    },
  })
  // The loader of @xenkit/native looks for the addon next to itself. Bundled, it is in this folder.
  if (existsSync(addon)) await copyFile(addon, join(directory, basename(addon)))
}

/** Modules of xenkit that run in their own threads, so programs load them as files. */
const threadModules = ['thread', 'ring-thread', 'shared-file-store', 'shared-memory-store'] as const

/**
 * Bundles `threadModules` for the programs of a directory, and makes the directory the package in
 * which programs look for them. The modules must share the programs' copy of the addon: threads
 * find each other's memory only through the same copy.
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
