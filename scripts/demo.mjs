#!/usr/bin/env node
// `npm run demo`: runs the command from its sources, in the folder where npm was called. npm would
// run it in the clone's folder, where the relative path of an image means another file.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

const main = join(import.meta.dirname, '../packages/xenkit/src/cli/main.ts')
const args = [
  '--import',
  import.meta.resolve('tsx'),
  '--conditions=xenkit-source',
  main,
  'demo',
  ...process.argv.slice(2),
]
const { status } = spawnSync(process.execPath, args, {
  cwd: process.env['INIT_CWD'],
  stdio: 'inherit',
})
process.exitCode = status ?? 1
