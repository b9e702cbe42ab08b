import { execFileSync, spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, readFile, readdir, readlink, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { extractKernel, payloadOf } from '../../src/image/kernel.ts'
import { parseUris, unpack } from '../../src/image/packages.ts'
import { neededBy } from '../../src/image/shared-libraries.ts'

/** Returns the reason to skip a test if a Debian program is missing. On CI no test is skipped. */
const missing = (program: string): string | undefined =>
  process.env['CI'] !== 'true' && spawnSync(program, ['--version']).error
    ? `${program} can't be run here`
    : undefined

test('package names are parsed from the output of apt', () => {
  const text = [
    `'http://deb.example.org/pool/x/xen/xen-utils_4.17%2b1_amd64.deb' xen-utils_4.17+1_amd64.deb 1372500 SHA256:00ff`,
    `'http://deb.example.org/pool/b/busybox/busybox_1.35_amd64.deb' busybox_1%3a1.35_amd64.deb 928188 MD5Sum:00ff`,
  ].join('\n')
  expect(parseUris(text)).toEqual(['busybox_1%3a1.35_amd64.deb', 'xen-utils_4.17+1_amd64.deb'])
})

function bzImageOf(payload: Buffer): Buffer {
  const bzImage = Buffer.alloc(4096)
  bzImage.writeUInt8(3, 0x1f1)
  bzImage.write('HdrS', 0x202)
  bzImage.writeUInt32LE(100, 0x248)
  bzImage.writeUInt32LE(payload.length, 0x24c)
  payload.copy(bzImage, 4 * 512 + 100)
  return bzImage
}

test('the payload of a bzImage lies behind its setup sectors', () => {
  expect(payloadOf(bzImageOf(Buffer.from('payload'))).toString()).toBe('payload')
  expect(() => payloadOf(Buffer.alloc(4096))).toThrow('not a bzImage')
})

test.for(['xz', 'zstd'])('a kernel compressed with %s is unpacked', async (program, { skip }) => {
  const why = missing(program)
  if (why !== undefined) return skip(why)
  const tree = await mkdtemp(join(tmpdir(), 'kernel-'))
  onTestFinished(() => rm(tree, { recursive: true }))
  const kernel = Buffer.from('\x7fELF and so on', 'latin1')
  const size = Buffer.alloc(4)
  size.writeUInt32LE(kernel.length)
  const compressed = execFileSync(program, ['--compress', '--stdout'], { input: kernel })
  await mkdir(join(tree, 'boot'))
  await writeFile(
    join(tree, 'boot/vmlinuz-6.12-amd64'),
    bzImageOf(Buffer.concat([compressed, size])),
  )
  expect(await extractKernel(tree, join(tree, 'vmlinux'))).toBe('6.12-amd64')
  expect(await readFile(join(tree, 'vmlinux'))).toEqual(kernel)
})

test('packages are unpacked into one tree, whether they contain /bin or /usr/bin', async ({
  skip,
}) => {
  const why = missing('dpkg-deb')
  if (why !== undefined) return skip(why)
  const work = await mkdtemp(join(tmpdir(), 'unpack-'))
  onTestFinished(() => rm(work, { recursive: true }))
  const packages = await Promise.all(
    ['bin', 'usr/bin'].map(async (directory, i) => {
      const source = join(work, String(i))
      await mkdir(join(source, directory), { recursive: true })
      await mkdir(join(source, 'DEBIAN'))
      await writeFile(join(source, directory, `program-${i}`), '')
      await writeFile(
        join(source, 'DEBIAN/control'),
        `Package: p${i}\nVersion: 1\nArchitecture: all\nMaintainer: none <none@example.org>\nDescription: none\n`,
      )
      execFileSync('dpkg-deb', ['--build', source, join(work, `${i}.deb`)])
      return join(work, `${i}.deb`)
    }),
  )
  await unpack(packages, join(work, 'tree'))
  expect(await readdir(join(work, 'tree/usr/bin'))).toEqual(['program-0', 'program-1'])
  expect(await readlink(join(work, 'tree/bin'))).toBe('usr/bin')
})

test('a program needs its libraries and its interpreter', () => {
  const readelf = `
      [Requesting program interpreter: /lib64/ld-linux-x86-64.so.2]
 0x0000000000000001 (NEEDED)             Shared library: [libext2fs.so.2]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
 0x000000000000000c (INIT)               0x4000`
  expect(neededBy(readelf)).toEqual(['libext2fs.so.2', 'libc.so.6', 'ld-linux-x86-64.so.2'])
})
