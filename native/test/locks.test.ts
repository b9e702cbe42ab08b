/** Locks on bytes of an open file: whom they belong to, when they conflict, and when they end. */
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, expect, test } from 'vitest'
import { loadNative } from '../index.js'

const native = loadNative()
const folder = mkdtempSync(join(tmpdir(), 'xenkit-locks-'))
const path = join(folder, 'image')
let fd: number
let other: number

beforeEach(() => {
  ;[fd, other] = [openSync(path, 'w+'), openSync(path, 'r')]
  return () => {
    closeSync(fd)
    closeSync(other)
  }
})
afterAll(() => rmSync(folder, { recursive: true }))

test('shared locks coexist, past the end too, and another open file finds them', async () => {
  expect(await native.lockBytes(fd, [100, 203], [])).toBe(0)
  expect(await native.lockBytes(other, [100, 201], [])).toBe(0)
  expect(await native.lockBytes(other, [], [101, 203, 100])).toBe(203)
  // The locks of one open file never conflict with each other.
  expect(await native.lockBytes(fd, [], [203, 101])).toBe(0)
  expect(await native.lockBytes(fd, [], [201])).toBe(201)
})

test('locks end with the last descriptor of their open file', async () => {
  await native.lockBytes(fd, [7], [])
  closeSync(openSync(path, 'r'))
  expect(await native.lockBytes(other, [], [7])).toBe(7)
  closeSync(fd)
  expect(await native.lockBytes(other, [], [7])).toBe(0)
  fd = openSync(path, 'r')
})

test('a closed descriptor gives EBADF, and arguments out of range are refused', async () => {
  expect(await native.lockBytes(1 << 20, [1], [])).toBe(-constants.errno.EBADF)
  expect(await native.lockBytes(1 << 20, [], [2 ** 31 - 1])).toBe(-constants.errno.EBADF)
  const outOfRange: unknown = expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' })
  for (const [number, byte] of [
    [-1, 1],
    [fd, 0],
    [fd, 2 ** 31],
  ] as const) {
    expect(() => native.lockBytes(number, [byte], [])).toThrow(outOfRange)
    expect(() => native.lockBytes(number, [], [byte])).toThrow(outOfRange)
  }
})
