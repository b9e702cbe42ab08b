/** Lines have at most 100 columns: the formatter keeps code to that, this test keeps comments. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '..')
const COLUMNS = 100

const sources = execFileSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' })
  .split('\n')
  .filter((name) => /\.(ts|mts|mjs|js|rs)$/.test(name))

/** Whether the line contains a string or ends with an address, which can't be broken. */
const isWhole = (line: string): boolean => /['"`]/.test(line) || /https?:\S+$/.test(line)

test('no comment is wider than 100 columns', () => {
  const wide = sources.flatMap((name) =>
    readFileSync(join(root, name), 'utf8')
      .split('\n')
      .flatMap((line, i) => (line.length > COLUMNS && !isWhole(line) ? [`${name}:${i + 1}`] : [])),
  )
  expect(wide).toEqual([])
})
