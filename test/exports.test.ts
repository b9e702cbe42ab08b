/**
 * Public API: exports.txt lists every exported name, and each name has a docstring on its symbol,
 * where an editor shows it. After a deliberate change of the exports:
 * `npx vitest run test/exports.test.ts --update`.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'

const packages = join(import.meta.dirname, '../packages')

interface EntryPoint {
  /** What programs import: `xenkit`, `@xenkit/sim/socket`. */
  readonly name: string
  readonly file: string
}

/** Entry points that are TypeScript, as the package's `exports` name them. */
function entryPoints(directory: string): EntryPoint[] {
  const { name, exports } = JSON.parse(
    readFileSync(join(packages, directory, 'package.json'), 'utf8'),
  ) as { name: string; exports: Record<string, string | { 'xenkit-source'?: string }> }
  return Object.entries(exports).flatMap(([path, target]) => {
    const source = typeof target === 'object' ? target['xenkit-source'] : undefined
    if (!source?.endsWith('.ts')) return []
    return [{ name: join(name, path), file: join(packages, directory, source) }]
  })
}

const KINDS: readonly (readonly [ts.SymbolFlags, string])[] = [
  [ts.SymbolFlags.Class, 'class'],
  [ts.SymbolFlags.Function, 'function'],
  [ts.SymbolFlags.Variable, 'const'],
  [ts.SymbolFlags.Interface, 'interface'],
  [ts.SymbolFlags.TypeAlias, 'type'],
]

const points = readdirSync(packages).flatMap(entryPoints)
const program = ts.createProgram(
  points.map(({ file }) => file),
  {
    module: ts.ModuleKind.NodeNext,
    customConditions: ['xenkit-source'],
    allowImportingTsExtensions: true,
    noEmit: true,
  },
)
const checker = program.getTypeChecker()

/** Whether a symbol comes from npm, as the integers of typed-binary that wire exports do. */
const isForeign = ({ declarations = [] }: ts.Symbol): boolean =>
  declarations.every((it) => it.getSourceFile().fileName.includes('/node_modules/'))

const exported = points.flatMap(({ name, file }) => {
  const source = program.getSourceFile(file)
  const module = source && checker.getSymbolAtLocation(source)
  return (module ? checker.getExportsOfModule(module) : []).map((symbol) => {
    const isAlias = (symbol.flags & ts.SymbolFlags.Alias) !== 0
    const target = isAlias ? checker.getAliasedSymbol(symbol) : symbol
    const kinds = KINDS.filter(([flag]) => (target.flags & flag) !== 0).map(([, kind]) => kind)
    return {
      line: `${name} ${symbol.name} (${kinds.join(', ')})\n`,
      name: `${name} ${symbol.name}`,
      documented: isForeign(target) || target.getDocumentationComment(checker).length > 0,
    }
  })
})

test('exports.txt lists what every package exports, and no more', async () => {
  const lines = exported.map(({ line }) => line).toSorted()
  await expect(lines.join('')).toMatchFileSnapshot('exports.txt')
})

test('entry points name what they export', () => {
  const starred = points.filter(({ file }) =>
    /^export (type )?\*/m.test(readFileSync(file, 'utf8')),
  )
  expect(starred.map(({ name }) => name)).toEqual([])
})

test('every exported name has a docstring', () => {
  const missing = exported.filter(({ documented }) => !documented).map(({ name }) => name)
  expect(missing).toEqual([])
})
