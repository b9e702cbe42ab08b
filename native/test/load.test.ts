/** Importing the package never fails; `loadNative` reports why the addon can't be loaded. */
import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'

const native = join(import.meta.dirname, '..')
const addon = readdirSync(native).find((name) => name.endsWith('.node')) ?? 'not built'
let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'xenkit-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

/**
 * Runs index.js as part of a bundle: pasted at the start of another module, in another directory.
 */
function runBundle(code: string, prelude = ''): string {
  const source = readFileSync(join(native, 'index.js'), 'utf8').replace(
    'export function',
    'function',
  )
  writeFileSync(join(directory, 'bundle.mjs'), `${prelude}${source}\n${code}`)
  return execFileSync(process.execPath, [join(directory, 'bundle.mjs')], {
    encoding: 'utf8',
    timeout: 20_000,
  }).trim()
}

const REPORT =
  'try { loadNative(); console.log("loaded") } catch (error) { console.log(error.code, error.message) }'

test('finds the addon beside the bundle', () => {
  copyFileSync(join(native, addon), join(directory, addon))
  expect(
    runBundle('console.log(loadNative() === loadNative(), typeof loadNative().counters)'),
  ).toBe('true function')
})

test('without the addon, importing works and loading reports what is missing', () => {
  expect(runBundle('console.log("imported")')).toBe('imported')
  expect(runBundle(REPORT)).toBe(
    `ERR_XENKIT_NATIVE the native addon of xenkit can't be loaded: there is no build for linux-${process.arch}, Node ${process.versions.node}`,
  )
})

test('an addon that cannot be loaded reports why', () => {
  writeFileSync(join(directory, addon), 'not an addon')
  expect(runBundle(REPORT)).toMatch(
    /ERR_XENKIT_NATIVE the native addon of xenkit can't be loaded: ".\/xenkit\..*\.node": .*file too short/,
  )
})

test('an addon of another version is refused', () => {
  copyFileSync(join(native, addon), join(directory, addon))
  const prelude = `
    import Module from 'node:module'
    const load = Module.prototype.require
    Module.prototype.require = function (name) { return { ...load.call(this, name), ABI: undefined } };`
  expect(runBundle(REPORT, prelude)).toMatch(
    /^ERR_XENKIT_NATIVE_ABI the native addon .* ".\/xenkit\..*\.node" has ABI 0, this version needs \d+: build it again/,
  )
})

test('on another platform nothing is tried', () => {
  copyFileSync(join(native, addon), join(directory, addon))
  expect(
    runBundle(REPORT, 'Object.defineProperty(process, "platform", { value: "darwin" });'),
  ).toContain(`no build for darwin-${process.arch}`)
})
