/** Contracts are on the exported symbol, where editors show them, not in the file's header. */
import { join } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '..')
const contracts = {
  xenkit: ['BlockStore', 'Disk', 'attachDisk', 'createMachine', 'openHypervisor', 'serveVbd'],
  grant: ['GrantTable'],
  xenbus: ['FrontendDevice'],
}

const sources = Object.keys(contracts).map((name) => join(root, 'packages', name, 'src/index.ts'))
const program = ts.createProgram(sources, {
  module: ts.ModuleKind.NodeNext,
  customConditions: ['xenkit-source'],
  allowImportingTsExtensions: true,
  noEmit: true,
})
const checker = program.getTypeChecker()

test.each(Object.entries(contracts))('%s', (name, expected) => {
  const file = program.getSourceFile(join(root, 'packages', name, 'src/index.ts'))
  const module = file && checker.getSymbolAtLocation(file)
  const exported = module ? checker.getExportsOfModule(module) : []
  const documented = exported.filter((symbol) => {
    const isAlias = (symbol.flags & ts.SymbolFlags.Alias) !== 0
    const target = isAlias ? checker.getAliasedSymbol(symbol) : symbol
    return target.getDocumentationComment(checker).length > 0
  })
  expect(documented.map((symbol) => symbol.name)).toEqual(expect.arrayContaining(expected))
})
