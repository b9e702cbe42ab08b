/** Copies kernel modules with their dependencies into a domain's tree, uncompressed. */
import { cp, mkdir } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { command } from '../process.ts'

/** An unpacked kernel package, from which modules are copied. */
export interface KernelTree {
  readonly directory: string
  readonly version: string
}

/** Writes the dependency index of an unpacked kernel package. */
export async function indexModules({ directory, version }: KernelTree): Promise<void> {
  await command('depmod', ['-b', directory, version])
}

export async function copyModules(
  kernel: KernelTree,
  names: readonly string[],
  tree: string,
): Promise<void> {
  const { directory, version } = kernel
  const shown = await command('modprobe', [
    '--dirname',
    directory,
    '--set-version',
    version,
    '--show-depends',
    '--all',
    ...names,
  ])
  const files = new Set([...shown.matchAll(/^insmod (\S+)/gm)].flatMap(([, file]) => file ?? []))
  const index = ['modules.builtin', 'modules.builtin.modinfo', 'modules.order'].map((name) =>
    join(directory, 'lib/modules', version, name),
  )
  for (const file of [...files, ...index]) {
    const target = join(tree, relative(directory, file))
    await mkdir(dirname(target), { recursive: true })
    await cp(file, target)
    if (target.endsWith('.xz')) await command('xz', ['--decompress', target])
  }
  await indexModules({ directory: tree, version })
}
