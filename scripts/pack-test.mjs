#!/usr/bin/env node
// `npm run pack:test`: runs the README's shell commands verbatim in an empty folder, as a new user
// would. They pack every package, install the tarballs into a project and run the example. Then
// this type-checks examples there, and runs them on other versions of Node.
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const folder = mkdtempSync(join(tmpdir(), 'xenkit-pack-'))
const project = join(folder, 'my-disk')
const quiet = '--no-audit --no-fund --loglevel=error'
let passed = 0
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

const readme = readFileSync('README.md', 'utf8')
const [, commands] = /```sh\n(\(cd xenkit && npm run pack\)\n[^`]*)```/.exec(readme) ?? []
if (commands === undefined) fail('the README has no sh block that begins with npm run pack')
symlinkSync(resolve('.'), join(folder, 'xenkit'))
step('run the commands of the README', commands, {
  cwd: folder,
  says: /100 random writes read back/,
})

cpSync('examples/workers-disk.ts', join(project, 'workers-disk.ts'))
const { devDependencies } = JSON.parse(readFileSync('package.json', 'utf8'))
const { typescript, '@types/node': types } = devDependencies
const compilerOptions = {
  target: 'es2023',
  lib: ['esnext'],
  module: 'nodenext',
  strict: true,
  noEmit: true,
  types: ['node'],
}
const configuration = JSON.stringify({ compilerOptions, include: ['*.ts'] })
writeFileSync(join(project, 'tsconfig.json'), configuration)
step('install a type checker', `npm install ${quiet} typescript@${typescript} @types/node@${types}`)
step('type-check the examples', 'npx tsc')
step('run an example that starts threads', 'npx xenkit sim --writes 200 workers-disk.ts disk.img')
step('run the command', 'npx xenkit --version')

step('make the project CommonJS by mistake', 'npm pkg delete type')
step('get advice to make it a module', 'npx xenkit sim file-disk.ts disk.img', {
  status: 1,
  says: /^xenkit: .*npm pkg set type=module.*\n$/,
})
step('make it a module, and remove tsx', `npm pkg set type=module; npm uninstall ${quiet} tsx`)
const needsTsx = { status: 1, says: /^xenkit: .*npm install tsx.*\n$/ }
run('20', needsTsx)
run('22', needsTsx)
run('24', { says: /guest: read 131072 sectors/ })
console.log(`${passed} passed, 0 failed`)

/**
 * Runs the example on another version of Node.
 * @param {string} version @param {Outcome} expected
 */
function run(version, expected) {
  step(`install Node ${version}`, `npm install ${quiet} --prefix ../${version} node@${version}`)
  const node = `../${version}/node_modules/.bin/node`
  const sim = 'node_modules/xenkit/dist/cli/main.js sim file-disk.ts disk.img'
  step(`run the example on Node ${version}`, `${node} ${sim}`, expected)
}

/**
 * Runs a script with bash, and fails the test unless its status and output are as expected.
 * @typedef {{ status?: number, says?: RegExp }} Outcome a script's status and output
 * @param {string} what @param {string} script @param {Outcome & { cwd?: string }} [o]
 */
function step(what, script, { cwd = project, status = 0, says = /(?:)/ } = {}) {
  console.log(`--- ${what}`)
  const result = spawnSync('bash', ['-ec', script], { cwd, encoding: 'utf8', maxBuffer: 2 ** 26 })
  const text = `${result.stdout}${result.stderr}`
  process.stdout.write(text)
  const found = `got status ${result.status}`
  if (result.status !== status) fail(`${what}: expected status ${status}, ${found}`)
  if (!says.test(text)) fail(`${what}: expected ${says}, ${found}`)
  passed++
}

/** @param {string} message @returns {never} */
function fail(message) {
  console.error(`failed: ${message}`)
  console.log(`${passed} passed, 1 failed`)
  process.exit(1)
}
