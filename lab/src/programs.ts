/**
 * Programs for dom0. They lie in the folder that dom0 mounts as /lab/programs, which is on its
 * PATH. So `NAME` starts a program as if it were installed.
 */
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bundle, bundleThreads, type Programs } from './bundle.ts'

const agent = { agent: 'lab/dom0/agent/main.ts' }

export async function bundlePrograms(programs: Programs, directory: string): Promise<void> {
  const all = { ...programs, ...agent }
  await bundle(all, directory)
  await bundleThreads(directory)
  for (const name of Object.keys(all)) {
    const command = join(directory, name)
    await writeFile(command, `#!/bin/sh\nexec node /lab/programs/${name}.mjs "$@"\n`)
    await chmod(command, 0o755)
  }
}
