/**
 * Checks of docs and READMEs: a code block marked `ts` type-checks against the sources, one marked
 * `ts FILE` is part of that file, links lead somewhere, and lines are wrapped.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '..')

interface Block {
  /** Page and line of the block, for error messages. */
  readonly where: string
  /** File that the block must be part of; empty if it must type-check by itself. */
  readonly file: string
  readonly code: string
}

const pages = execFileSync('git', ['ls-files', '*.md'], { cwd: root, encoding: 'utf8' })
  .trim()
  .split('\n')
  .map((page) => ({ page, text: readFileSync(join(root, page), 'utf8') }))

/**
 * Pages whose code must type-check. The READMEs of lab and bench show fragments, so they aren't
 * among them.
 */
const forUsers = pages.filter(({ page }) => /^(README|docs|packages)/.test(page))

const blocks = forUsers.flatMap(({ page, text }) =>
  [...text.matchAll(/^```ts(?: (\S+))?\n(.*?)\n```$/gms)].map(
    ({ 1: file = '', 2: code = '', index }): Block => ({
      where: `${page}:${text.slice(0, index).split('\n').length + 1}`,
      file,
      code,
    }),
  ),
)

/** Declarations of names that blocks use and that the text around them introduces. */
const GIVEN = `
import type { Hypervisor } from '@xenkit/hypervisor'
import type { XenstoreClient } from '@xenkit/xenstore-client'
declare global {
  const hv: Hypervisor
  const xs: XenstoreClient
  const signal: AbortSignal
}`

function problemsOf(sources: ReadonlyMap<string, string>): readonly string[] {
  const options: ts.CompilerOptions = {
    ...ts.parseJsonConfigFileContent(
      ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile).config,
      { ...ts.sys, readDirectory: () => [] },
      root,
    ).options,
    noUnusedLocals: false,
  }
  const host = ts.createCompilerHost(options)
  const { readFile, fileExists } = host
  host.readFile = (name) => sources.get(name) ?? readFile(name)
  host.fileExists = (name) => sources.has(name) || fileExists(name)
  // Pages belong to no package, so each import is resolved from within the package that it names.
  host.resolveModuleNameLiterals = (literals, containing, _, __, file) =>
    literals.map(({ text }) => {
      const [, name] = /^(?:@xenkit\/)?([^/]+)/.exec(text) ?? []
      const own = join(root, 'packages', name ?? '', 'src/index.ts')
      const from = sources.has(containing) && fileExists(own) ? own : containing
      const mode = file.impliedNodeFormat ?? ts.ModuleKind.ESNext
      return ts.resolveModuleName(text, from, options, host, undefined, undefined, mode)
    })
  const program = ts.createProgram([...sources.keys()], options, host)
  return [...sources.keys()].flatMap((name) => {
    const file = program.getSourceFile(name)
    return ts
      .getPreEmitDiagnostics(program, file)
      .map(
        ({ start = 0, messageText }) =>
          `${name}: line ${file ? file.getLineAndCharacterOfPosition(start).line + 1 : 0}: ` +
          ts.flattenDiagnosticMessageText(messageText, '\n'),
      )
  })
}

test('code in pages type-checks', { timeout: 120_000 }, () => {
  const given = join(root, 'docs/given.mts')
  const sources = new Map([[given, GIVEN]])
  for (const { where, code, file } of blocks) {
    if (file === '') sources.set(join(root, `${where}.mts`), `${code}\nexport {}`)
  }
  expect(sources.size).toBeGreaterThan(10)
  expect(problemsOf(sources)).toEqual([])
})

test.each(blocks.filter(({ file }) => file !== ''))('$where is part of $file', ({ file, code }) => {
  expect(readFileSync(join(root, file), 'utf8')).toContain(code)
})

/** The anchor that GitHub gives to a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')

test.each(pages)('links of $page lead somewhere', ({ page, text }) => {
  const links = [...text.matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)]
  const broken = links.filter(([, path = '', anchor]) => {
    const target = path === '' ? join(root, page) : join(root, page, '..', path)
    if (!existsSync(target)) return true
    if (anchor === undefined) return false
    const headings = readFileSync(target, 'utf8').matchAll(/^#+ (.*)$/gm)
    return ![...headings].some(([, heading = '']) => anchorOf(heading) === anchor)
  })
  expect(broken.map(([link]) => link)).toEqual([])
})

const textOf = (name: string): string => readFileSync(join(root, name), 'utf8')

test.each(readdirSync(join(root, 'packages')))('the overview and a README describe %s', (name) => {
  expect(textOf('docs/overview.md')).toContain(`](../packages/${name})`)
  expect(textOf(`packages/${name}/README.md`)).not.toBe('')
})

test.each(readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md')))(
  'the README leads to %s',
  (name) => expect(textOf('README.md')).toContain(`](docs/${name})`),
)

test.each(pages)('lines of $page have at most 100 columns, but for tables', ({ text }) => {
  const wide = text.split('\n').filter((line) => line.length > 100 && !line.startsWith('|'))
  expect(wide).toEqual([])
})
