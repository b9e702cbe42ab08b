#!/usr/bin/env node
// `npm run pack`: builds every package and packs it into packed/, for a project to install.
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { resolve } from 'node:path'

const folder = resolve('packed')
const pnpm = ['-y', 'pnpm@12', '--config.verify-deps-before-run=false', '--reporter=append-only']
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder)
// Unsorted: packages build from each other's sources, and the tests of two need each other.
run('npx', [...pnpm, '-r', '--no-sort', '--filter', './packages/*', 'run', 'build'])
run('npx', [
  ...pnpm,
  '-r',
  '--filter',
  './packages/*',
  '--filter',
  './native',
  'pack',
  '--pack-destination',
  folder,
])
console.log(`${readdirSync(folder).length} tarballs: in a project, npm install ${folder}/*.tgz`)

/**
 * Runs a command, and shows its output only if it fails.
 * @param {string} command @param {string[]} args
 */
function run(command, args) {
  const { status, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  })
  if (status === 0) return
  process.stderr.write(stdout + stderr)
  console.error(`failed: ${command} ${args.join(' ')}`)
  process.exit(1)
}
