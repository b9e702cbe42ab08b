/** The table of docs/features.md must match the rows that the lab runs on real Xen. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { features, featuresOfOldest } from '../lab/scenarios/vbd/features.ts'

const page = readFileSync(join(import.meta.dirname, '../docs/features.md'), 'utf8')
const rows = [...page.matchAll(/^\| `([^`]+)`( \\\*)? \|/gm)]

test('the page names every feature that the lab has a row for, and no other', () => {
  expect(rows.map(([, feature]) => feature)).toEqual(features)
})

test('the page marks those that guests with the oldest kernel show, too', () => {
  const marked = rows.filter(([, , mark]) => mark !== undefined)
  expect(marked.map(([, feature]) => feature)).toEqual(featuresOfOldest)
})
