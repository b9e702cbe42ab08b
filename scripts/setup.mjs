#!/usr/bin/env node
// Prepares a clone: installs dependencies, and with --native also builds the addon. It is plain
// JavaScript, because it runs before anything is installed. If nothing has changed, it only hashes
// the lock file.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 20 || (major === 20 && minor < 19)) {
  fail(`xenkit needs Node 20.19 or newer, this is ${process.versions.node}`)
}

// The stamp includes platform and Node's major version, because native packages depend on both.
const stamp = 'node_modules/.xenkit-setup'
const wanted = createHash('sha256')
  .update(readFileSync('pnpm-lock.yaml'))
  .update(`${process.platform} ${process.arch} ${major}`)
  .digest('hex')
if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
  run('npx', ['-y', 'pnpm@12', 'install', '--frozen-lockfile', '--reporter=silent'])
  writeFileSync(stamp, wanted)
}

if (process.argv.includes('--native')) {
  if (spawnSync('cargo', ['--version']).status !== 0) {
    fail(
      'this needs Rust 1.88 or newer, for the native addon: install it from https://rustup.rs and run again',
    )
  }
  run('npm', ['run', '--silent', 'build'], 'native')
}

/** @param {string} command @param {string[]} args @param {string} [cwd] */
function run(command, args, cwd = '.') {
  const { status, error } = spawnSync(command, args, {
    cwd,
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  if (status !== 0) fail(`${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}`)
}

/** @param {string} message @returns {never} */
function fail(message) {
  console.error(message)
  process.exit(1)
}
