import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { savePicture } from '../src/picture.ts'

test('a new picture replaces the old one', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'xenkit-picture-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  for (const name of ['slower than theirs', 'faster']) {
    await savePicture('bench', {
      heading: 'today',
      figures: [{ name, values: [1], gate: { atLeast: 1 } }],
      folder,
    })
  }
  const svg = await readFile(join(folder, 'bench.svg'), 'utf8')
  expect(svg).toMatch(/^<svg [^]*today[^]*faster[^]*<\/svg>\n$/)
  expect(svg).not.toContain('slower')
})
