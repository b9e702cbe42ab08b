/**
 * The layer rule of docs/design.md, checked against the imports of every source file and the
 * dependencies in every package.json.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { join, relative } from 'node:path'
import { describe, expect, test } from 'vitest'

const root = join(import.meta.dirname, '..')
const L0 = ['@xenkit/hypervisor', '@xenkit/wire', '@xenkit/block-store', '@xenkit/frames']
const L1 = ['@xenkit/grant', '@xenkit/evtchn', '@xenkit/ring', '@xenkit/xenstore-client']
const L2 = ['@xenkit/xenbus']

/** Packages of the workspace and of npm that each package's sources may import. */
const allowed: Record<string, readonly string[]> = {
  hypervisor: [],
  wire: ['typed-binary'],
  'block-store': [],
  frames: [],
  grant: L0,
  evtchn: L0,
  ring: ['@xenkit/hypervisor', '@xenkit/wire'],
  'xenstore-ring': ['@xenkit/hypervisor', '@xenkit/wire', '@xenkit/ring'],
  'xenstore-client': L0,
  xenbus: [...L0, ...L1],
  backend: [...L0, ...L1, ...L2],
  vbd: [...L0, ...L1, ...L2, '@xenkit/backend'],
  stores: L0,
  vif: [...L0, ...L1, ...L2, '@xenkit/backend'],
  links: L0,
  sim: [...L0, '@xenkit/xenstore-ring'],
  xen: [...L0, '@xenkit/native'],
  xenkit: [
    ...L0,
    ...L1,
    ...L2,
    '@xenkit/backend',
    '@xenkit/vbd',
    '@xenkit/stores',
    '@xenkit/vif',
    '@xenkit/links',
    '@xenkit/sim',
    '@xenkit/sim/socket',
    '@xenkit/xen',
    'commander',
  ],
}

/** The only sources of packages that may import Node's built-in modules. */
const mayUseNode = [/^xen\//, /^xenkit\//, /^stores\//, /^links\//, /^sim\/src\/socket\.ts$/]

const isBuiltin = (name: string): boolean =>
  name.startsWith('node:') || builtinModules.includes(name)

/** Doesn't follow symbolic links: those in node_modules lead from package to package in circles. */
function sources(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map(({ parentPath, name }) => join(parentPath, name))
    .filter((file) => !file.includes('/dist/'))
}

function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8').replaceAll(/^\s*(\/\*|\*|\/\/).*$/gm, '')
  return [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*['"]([^'"]+)['"]/g)].flatMap((m) =>
    m[1] === undefined ? [] : [m[1]],
  )
}

test('every package has a rule', () => {
  expect(readdirSync(join(root, 'packages')).toSorted()).toEqual(Object.keys(allowed).toSorted())
})

describe.each(Object.entries(allowed))('%s', (name, packages) => {
  const directory = join(root, 'packages', name)

  test('imports only from lower layers', () => {
    const wrong = sources(join(directory, 'src')).flatMap((file) => {
      const where = relative(join(root, 'packages'), file)
      const nodeAllowed = mayUseNode.some((pattern) => pattern.test(where))
      return importsOf(file)
        .filter((target) => {
          if (target.startsWith('.')) {
            return relative(directory, join(file, '..', target)).startsWith('..')
          }
          return isBuiltin(target) ? !nodeAllowed : !packages.includes(target)
        })
        .map((target) => `${where} imports ${target}`)
    })
    expect(wrong).toEqual([])
  })

  test('declares what it imports, and no more', () => {
    const { dependencies = {} } = JSON.parse(
      readFileSync(join(directory, 'package.json'), 'utf8'),
    ) as { dependencies?: Record<string, string> }
    const used = new Set(
      sources(join(directory, 'src'))
        .flatMap(importsOf)
        .filter((t) => !t.startsWith('.') && !isBuiltin(t))
        .map((t) =>
          t
            .split('/')
            .slice(0, t.startsWith('@') ? 2 : 1)
            .join('/'),
        ),
    )
    expect(Object.keys(dependencies).toSorted()).toEqual([...used].toSorted())
  })
})

/**
 * Finds circles of imports, type imports included, each as a path from a file back to itself. It
 * doesn't find every circle, but at least one if there are any.
 */
function importCircles(files: readonly string[]): string[] {
  const circles: string[] = []
  const path: string[] = []
  const visited = new Set<string>()
  const visit = (file: string): void => {
    const start = path.indexOf(file)
    if (start >= 0) {
      const circle = [...path.slice(start), file]
      circles.push(circle.map((name) => relative(root, name)).join(' > '))
    }
    if (visited.has(file)) return
    visited.add(file)
    path.push(file)
    for (const target of importsOf(file)) {
      if (/^\..*\.ts$/.test(target)) visit(join(file, '..', target))
    }
    path.pop()
  }
  for (const file of files) visit(file)
  return circles
}

test.each([...Object.keys(allowed).map((name) => `packages/${name}/src`), 'lab', 'bench'])(
  'no circle of imports in %s',
  (directory) => {
    expect(importCircles(sources(join(root, directory)))).toEqual([])
  },
)

test('native is imported by the xen adapter alone', () => {
  const users = sources(join(root, 'packages')).filter((file) =>
    importsOf(file).includes('@xenkit/native'),
  )
  expect([
    ...new Set(users.map((file) => relative(join(root, 'packages'), file).split('/')[0])),
  ]).toEqual(['xen'])
})
