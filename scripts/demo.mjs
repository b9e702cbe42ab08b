#!/usr/bin/env node
// `npm run demo`: the command from its sources, in the folder where npm was called. npm itself runs
// scripts in the clone's, where the relative path of an image would mean another file.
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
