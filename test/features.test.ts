/** The tables of features must match the rows that the lab runs on real Xen. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import * as disks from '../lab/scenarios/vbd/features.ts'
import * as cards from '../lab/scenarios/vif/features.ts'

const pages = [
  { name: 'features.md', lab: disks },
  { name: 'features-net.md', lab: cards },
]

describe.each(pages)('docs/$name', ({ name, lab }) => {
  const page = readFileSync(join(import.meta.dirname, '../docs', name), 'utf8')
  const rows = [...page.matchAll(/^\| `([^`]+)`( \\\*)? \|/gm)]

  test('names every feature that the lab has a row for, and no other', () => {
    expect(rows.map(([, feature]) => feature)).toEqual(lab.features)
  })

  test('marks those that guests with the oldest kernel show, too', () => {
    const marked = rows.filter(([, , mark]) => mark !== undefined)
    expect(marked.map(([, feature]) => feature)).toEqual(lab.featuresOfOldest)
  })
})
