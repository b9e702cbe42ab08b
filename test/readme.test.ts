/** The README's table of features, held against the rows that the lab shows on real Xen. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { features } from '../lab/scenarios/vbd/features.ts'

test('the README names every feature that the lab has a row for, and no other', () => {
  const readme = readFileSync(join(import.meta.dirname, '../README.md'), 'utf8')
  const [, section = ''] = readme.split('## The block device, feature by feature\n')
  const [table = ''] = section.split('\n## ')
  expect([...table.matchAll(/^\| `([^`]+)` \|/gm)].map(([, feature]) => feature)).toEqual(features)
})
