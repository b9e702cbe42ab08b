/** The README's table of features, held against the rows that the lab shows on real Xen. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { features, featuresOfOldest } from '../lab/scenarios/vbd/features.ts'

const readme = readFileSync(join(import.meta.dirname, '../README.md'), 'utf8')
const [, section = ''] = readme.split('## The block device, feature by feature\n')
const [table = ''] = section.split('\n## ')
const rows = [...table.matchAll(/^\| `([^`]+)`( \\\*)? \|/gm)]

test('the README names every feature that the lab has a row for, and no other', () => {
  expect(rows.map(([, feature]) => feature)).toEqual(features)
})

test('the README marks those that guests with the oldest kernel show, too', () => {
  const marked = rows.filter(([, , mark]) => mark !== undefined)
  expect(marked.map(([, feature]) => feature)).toEqual(featuresOfOldest)
})
