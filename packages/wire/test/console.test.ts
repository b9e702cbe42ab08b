import { expect, test } from 'vitest'
import { xenconsInterface } from '../src/index.ts'

test('the field of Xen 4.21 follows the indices of older consoles', () => {
  expect(xenconsInterface.at).toMatchObject({ out_prod: 3084, connection: 3088 })
  expect(xenconsInterface.size).toBe(3092)
})
