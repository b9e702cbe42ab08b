/** The layout of a frontend without a `protocol` node: Linux's BLKIF_PROTOCOL_DEFAULT. */
import { expect, test } from 'vitest'
import { abiOf } from '../../src/nodes.ts'

test.each([
  ['x64', 'x86_32'],
  ['ia32', 'x86_32'],
  ['arm64', 'arm'],
  ['arm', 'arm'],
  ['riscv64', 'arm'],
] as const)('on %s it is %s; one that says so has what it says', (arch, silent) => {
  expect(abiOf(undefined, arch)).toBe(silent)
  const said = ['x86_64-abi', 'x86_32-abi', 'arm-abi'].map((protocol) => abiOf(protocol, arch))
  expect(said).toEqual(['x86_64', 'x86_32', 'arm'])
})
