/**
 * A disk's flushes and discards take one thread of Node's pool each, whatever its guest asks for.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openFileStoreWith } from '../src/index.ts'
import { shared } from '../src/in-turn.ts'

test('discards of a flooding disk run one at a time, in order; those of another disk run concurrently', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'xenkit-turn-'))
  try {
    const paths = ['a', 'b'].map((name) => join(folder, name))
    for (const path of paths) await writeFile(path, new Uint8Array(1 << 20))
    const started: number[] = []
    const waiting: (() => void)[] = []
    // The store tries a discard past the image's end once when it opens; that call isn't counted.
    const discardRange = async (_: number, offset: number): Promise<void> => {
      if (offset >= 1 << 20) return
      started.push(offset)
      await new Promise<void>((resolve) => waiting.push(resolve))
    }
    const [flooding, other] = await Promise.all(
      paths.map((path) => openFileStoreWith({ discardRange }, path)),
    )
    const discards = Array.from({ length: 8 }, (_, i) =>
      flooding?.discard?.(i * 8, 8, { secure: false }),
    )
    const own = other?.discard?.(800, 8, { secure: false })
    await new Promise(setImmediate)
    expect(started).toEqual([0, 800 * 512])
    while (started.length < 9) {
      waiting.shift()?.()
      await new Promise(setImmediate)
    }
    for (const go of waiting) go()
    await Promise.all([...discards, own])
    expect(started.filter((at) => at !== 800 * 512)).toEqual(
      [0, 1, 2, 3, 4, 5, 6, 7].map((i) => i * 4096),
    )
    await Promise.all([flooding?.close(), other?.close()])
  } finally {
    await rm(folder, { recursive: true })
  }
})

test('flushes during a flush share the next one, which starts after them, and its failure', async () => {
  const runs: { resolve: () => void; reject: (error: Error) => void }[] = []
  const flush = shared(() => new Promise<void>((resolve, reject) => runs.push({ resolve, reject })))
  const first = flush()
  const during = Array.from({ length: 100 }, () => flush())
  expect(runs).toHaveLength(1)
  runs[0]?.resolve()
  await first
  expect(runs).toHaveLength(2)
  const later = flush()
  runs[1]?.reject(new Error('the disk is gone'))
  for (const { status } of await Promise.allSettled(during)) expect(status).toBe('rejected')
  await new Promise(setImmediate)
  expect(runs).toHaveLength(3)
  runs[2]?.resolve()
  await later
  const again = flush()
  expect(runs).toHaveLength(4)
  runs[3]?.resolve()
  await again
})
