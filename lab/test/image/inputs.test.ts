import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { hashInputs } from '../../src/image/inputs.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'inputs-'))
  await mkdir(join(directory, 'below'))
  await writeFile(join(directory, 'a'), 'one')
  await writeFile(join(directory, 'below/b'), 'two')
})
afterEach(() => rm(directory, { recursive: true }))

const hash = (words: string[] = []): Promise<string> => hashInputs({ files: [directory], words })

test('equal inputs have equal hashes', async () => {
  expect(await hash(['x'])).toBe(await hash(['x']))
})

test.each([
  ['the content of a file', () => writeFile(join(directory, 'below/b'), 'three')],
  ['the name of a file', () => rename(join(directory, 'a'), join(directory, 'c'))],
  ['an additional file', () => writeFile(join(directory, 'd'), '')],
])('%s changes the hash', async (_, change) => {
  const before = await hash()
  await change()
  expect(await hash()).not.toBe(before)
})

test('words count, and so do the bounds between them', async () => {
  expect(await hash(['ab', 'c'])).not.toBe(await hash(['a', 'bc']))
})
