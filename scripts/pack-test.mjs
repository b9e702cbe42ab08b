#!/usr/bin/env node
// What a new user gets: the README's words, letter by letter, in an empty folder. They pack every package, install
// the tarballs into a project and run the example; then examples are type-checked there, and run on other Nodes.
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const folder = mkdtempSync(join(tmpdir(), 'xenkit-pack-'))
const project = join(folder, 'my-disk')
const sim = ['sim', 'file-disk.ts', 'disk.img']
let passed = 0
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

const [, words] = /```sh\n(\(cd xenkit && npm run pack\)\n[^`]*)```/.exec(readFileSync('README.md', 'utf8')) ?? []
if (words === undefined) fail('the README has no words that begin with npm run pack')
symlinkSync(resolve('.'), join(folder, 'xenkit'))
step('do as the README says', 'bash', ['-ec', words], { cwd: folder, says: /100 random writes read back as written/ })

cpSync('examples/workers-disk.ts', join(project, 'workers-disk.ts'))
const { typescript, '@types/node': types } = JSON.parse(readFileSync('package.json', 'utf8')).devDependencies
step('install a type checker', 'npm', ['install', '--no-audit', '--no-fund', `typescript@${typescript}`, `@types/node@${types}`])
const compilerOptions = { target: 'es2023', lib: ['esnext'], module: 'nodenext', strict: true, noEmit: true, types: ['node'] }
writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }))
step('type-check the examples', 'npx', ['tsc'])
step('run an example that starts threads', 'npx', ['xenkit', 'sim', '--writes', '200', 'workers-disk.ts', 'disk.img'])
step('run the command', 'npx', ['xenkit', '--version'])

const xenkit = 'node_modules/xenkit/dist/cli/main.js'
step('CommonJS by mistake', 'npm', ['pkg', 'delete', 'type'])
step('it is said', 'npx', ['xenkit', ...sim], { status: 1, says: /^xenkit: .*npm pkg set type=module.*\n$/ })
step('a module again', 'npm', ['pkg', 'set', 'type=module'])
step('without tsx', 'npm', ['uninstall', '--no-audit', '--no-fund', 'tsx'])
step('Node 20 says what to do', 'npx', ['xenkit', ...sim], { status: 1, says: /npm install tsx/ })
for (const [version, o] of /** @type {const} */ ([['22', { status: 1, says: /^xenkit: .*npm install tsx.*\n$/ }], ['24', { says: /guest: read 131072 sectors/ }]])) {
  step(`install Node ${version}`, 'npm', ['install', '--prefix', join(folder, version), '--no-audit', '--no-fund', `node@${version}`])
  step(`run the example on Node ${version} without tsx`, join(folder, version, 'node_modules/.bin/node'), [xenkit, ...sim], o)
}
console.log(`${passed} passed, 0 failed`)

/**
 * @param {string} what @param {string} command @param {string[]} args
 * @param {{ cwd?: string, status?: number, says?: RegExp }} [o] `says`: what it prints to stdout and stderr
 */
function step(what, command, args, { cwd = project, status = 0, says = /(?:)/ } = {}) {
  console.log(`--- ${what}`)
  const result = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 2 ** 26 })
  const text = `${result.stdout}${result.stderr}`
  process.stdout.write(text)
  if (result.status !== status || !says.test(text)) fail(`${what}: expected status ${status} and ${says}, got status ${result.status}`)
  passed++
}

/** @param {string} message @returns {never} */
function fail(message) {
  console.error(`failed: ${message}`)
  console.log(`${passed} passed, 1 failed`)
  process.exit(1)
}
