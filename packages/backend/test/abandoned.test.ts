import { expect, test } from 'vitest'
import { unlessAborted } from '../src/abandoned.ts'

test('many devices wait for the same signal without a warning of a leak', async () => {
  const warnings: Error[] = []
  const warned = (warning: Error): void => void warnings.push(warning)
  process.on('warning', warned)
  const { signal } = new AbortController()
  let end = (): void => {}
  const work = new Promise<void>((resolve) => (end = resolve))
  const waits = Array.from({ length: 20 }, () => unlessAborted(work, signal))
  end()
  await Promise.all(waits)
  // Node emits a warning in the next tick.
  await new Promise((resolve) => setImmediate(resolve))
  process.off('warning', warned)
  expect(warnings).toEqual([])
})
