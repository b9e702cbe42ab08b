#!/usr/bin/env node
// What a user of npm gets: every package is built and packed, the tarballs are installed into an empty
// project, and examples, the README's among them, are type-checked there and run against a simulated guest.
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const folder = mkdtempSync(join(tmpdir(), 'xenkit-pack-'))
const project = join(folder, 'project')
const examples = ['file-disk.ts', 'workers-disk.ts']
let passed = 0
const pnpm = ['-y', 'pnpm@12', '--config.verify-deps-before-run=false']
try {
  step('build every package', 'npx', [...pnpm, '-r', '--filter', './packages/*', 'run', 'build'])
  step('pack every package', 'npx', [...pnpm, '-r', '--filter', './packages/*', '--filter', './native', 'pack', '--pack-destination', folder])
  const tarballs = readdirSync(folder).filter((name) => name.endsWith('.tgz'))

  mkdirSync(project)
  const dependencies = Object.fromEntries(tarballs.map((name) => [packageOf(name), `file:${join(folder, name)}`]))
  const { typescript, tsx, '@types/node': types } = JSON.parse(readFileSync('package.json', 'utf8')).devDependencies
  // The packages name each other by version: the overrides make those the tarballs too.
  writeJson('package.json', { private: true, type: 'module', dependencies: { ...dependencies, tsx }, devDependencies: { typescript, '@types/node': types }, overrides: dependencies })
  writeJson('tsconfig.json', {
    compilerOptions: { target: 'es2023', lib: ['esnext'], module: 'nodenext', strict: true, noEmit: true, types: ['node'] },
    include: examples,
  })
  for (const example of examples) cpSync(join('examples', example), join(project, example))
  writeFileSync(join(project, 'disk.img'), Buffer.alloc(2 ** 20, 'xenkit'))

  step(`install ${tarballs.length} tarballs with npm into an empty project`, 'npm', ['install', '--no-audit', '--no-fund', '--loglevel=error'], project)
  step('type-check the examples', 'npx', ['tsc'], project)
  step('run the example against a simulated guest', 'npx', ['xenkit', 'sim', '--writes', '200', 'file-disk.ts', 'disk.img'], project)
  step('run an example that starts threads', 'npx', ['xenkit', 'sim', '--writes', '200', 'workers-disk.ts', 'disk.img'], project)
  step('run the command', 'npx', ['xenkit', '--version'], project)
  console.log(`${passed} passed, 0 failed`)
} finally {
  rmSync(folder, { recursive: true, force: true })
}

/** @param {string} what @param {string} command @param {string[]} args @param {string} [cwd] */
function step(what, command, args, cwd = '.') {
  console.log(`--- ${what}`)
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 2 ** 26 })
  if (cwd === project || status !== 0) process.stdout.write(stdout)
  if (status === 0) {
    passed++
    return
  }
  process.stderr.write(stderr)
  console.error(`failed: ${what}`)
  console.log(`${passed} passed, 1 failed`)
  rmSync(folder, { recursive: true, force: true })
  process.exit(1)
}

/** @param {string} tarball `xenkit-wire-0.1.0.tgz` @returns the name that its package.json has */
function packageOf(tarball) {
  const name = tarball.replace(/-\d+\.\d+\.\d+.*$/, '')
  return name === 'xenkit' ? name : name.replace('-', '/').replace(/^/, '@')
}

/** @param {string} name @param {unknown} value */
function writeJson(name, value) {
  writeFileSync(resolve(project, name), JSON.stringify(value, null, 2))
}
