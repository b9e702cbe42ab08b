import { expect, test } from 'vitest'
import { payloadOf } from '../src/image/kernel.ts'
import { parseUris } from '../src/image/packages.ts'
import { neededBy } from '../src/image/shared-libraries.ts'

test('packages are the files that apt names', () => {
  const text = [
    `'http://deb.example.org/pool/x/xen/xen-utils_4.17%2b1_amd64.deb' xen-utils_4.17+1_amd64.deb 1372500 SHA256:00ff`,
    `'http://deb.example.org/pool/b/busybox/busybox_1.35_amd64.deb' busybox_1%3a1.35_amd64.deb 928188 MD5Sum:00ff`,
  ].join('\n')
  expect(parseUris(text)).toEqual(['busybox_1%3a1.35_amd64.deb', 'xen-utils_4.17+1_amd64.deb'])
})

test('the payload of a bzImage lies behind its setup sectors', () => {
  const bzImage = Buffer.alloc(4096)
  bzImage.writeUInt8(3, 0x1f1)
  bzImage.write('HdrS', 0x202)
  bzImage.writeUInt32LE(100, 0x248)
  bzImage.writeUInt32LE(7, 0x24c)
  bzImage.write('payload', 4 * 512 + 100)
  expect(payloadOf(bzImage).toString()).toBe('payload')
  expect(() => payloadOf(Buffer.alloc(4096))).toThrow('not a bzImage')
})

test('a program needs its libraries and its interpreter', () => {
  const readelf = `
      [Requesting program interpreter: /lib64/ld-linux-x86-64.so.2]
 0x0000000000000001 (NEEDED)             Shared library: [libext2fs.so.2]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
 0x000000000000000c (INIT)               0x4000`
  expect(neededBy(readelf)).toEqual(['libext2fs.so.2', 'libc.so.6', 'ld-linux-x86-64.so.2'])
})
