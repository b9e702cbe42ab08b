import { loadNative } from '@xenkit/native'
import { afterEach, expect, test, vi } from 'vitest'
import { optionalNative } from '../src/optional-native.ts'

vi.mock('@xenkit/native', { spy: true })
afterEach(() => void vi.mocked(loadNative).mockRestore())

const failWith = (code: string): void =>
  void vi.mocked(loadNative).mockImplementation(() => {
    throw Object.assign(new Error('no addon'), { code })
  })

test('an addon that is missing is left out', () => {
  failWith('ERR_XENKIT_NATIVE')
  expect(optionalNative()).toBeUndefined()
})

test('an addon of another version is an error', () => {
  failWith('ERR_XENKIT_NATIVE_ABI')
  expect(() => optionalNative()).toThrow('no addon')
})
