/** Containers such as qcow2 aren't served as raw images; a header that a guest wrote is allowed. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openFileStoreWith } from '../src/index.ts'

let folder: string
let images = 0
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xenkit-format-'))
})
afterAll(() => rm(folder, { recursive: true }))

const newPath = (): string => join(folder, `${images++}.img`)

async function imageWith(text: string, at: number, bytes = 1 << 20): Promise<string> {
  const path = newPath()
  const content = Buffer.alloc(bytes)
  content.write(text, at < 0 ? bytes + at : at, 'latin1')
  await writeFile(path, content)
  return path
}

async function expectRefused(path: string, text: RegExp): Promise<void> {
  const before = await readFile(path)
  const refused: unknown = expect.objectContaining({
    code: 'ERR_XEN_IMAGE',
    message: expect.stringMatching(text),
    details: { path },
  })
  for (const direct of [false, true]) {
    await expect(openFileStoreWith({}, path, { direct })).rejects.toEqual(refused)
  }
  expect(before.equals(await readFile(path))).toBe(true)
  for (const o of [{ readOnly: true }, { format: 'raw' }] as const) {
    await using store = await openFileStoreWith({}, path, o)
    expect(store.sectors).toBe(before.length / 512)
  }
}

describe.each([
  ['qcow2', 'QFI\xfb', 0, /qcow2 container.*--format=qcow2/],
  ['a dynamic VHD', 'conectix', 0, /VHD container.*--format=vpc/],
  ['a fixed VHD', 'conectix', -512, /VHD container.*--format=vpc/],
  ['VHDX', 'vhdxfile', 0, /VHDX container.*--format=vhdx/],
  ['a sparse VMDK', 'KDMV', 0, /VMDK container.*--format=vmdk/],
  ['an ESX VMDK', 'COWD', 0, /VMDK container/],
  ['a descriptor of a VMDK', '# Disk DescriptorFile\n', 0, /VMDK container/],
  ['VDI', '\x7f\x10\xda\xbe', 64, /VDI container.*--format=vdi/],
  ['LUKS', 'LUKS\xba\xbe', 0, /LUKS container.*cryptsetup/],
] as const)('%s', (_, magic, at, text) => {
  test.each([512, 1536, 1 << 20])(
    'of %i bytes is refused for writing, unless raw is said',
    async (bytes) => {
      await expectRefused(await imageWith(magic, at, bytes), text)
    },
  )
})

const qemu = spawnSync('qemu-img', ['--version']).error === undefined
if (!qemu) console.warn("not run: qemu-img can't be run (Debian: qemu-utils)")

test.skipIf(!qemu).each([
  ['qcow2', 'qcow2', []],
  ['vpc', 'VHD', []],
  ['vpc', 'VHD', ['-o', 'subformat=fixed']],
  ['vhdx', 'VHDX', []],
  ['vmdk', 'VMDK', []],
  ['vdi', 'VDI', []],
])('what qemu-img makes of %s is a %s container: %j', async (format, name, options) => {
  const path = newPath()
  execFileSync('qemu-img', ['create', '-q', '-f', format, ...options, path, '4M'])
  // qemu-img makes some images that aren't whole sectors long, which is another error: round them
  // up.
  const { length } = await readFile(path)
  if (length % 512 !== 0) await truncate(path, Math.ceil(length / 512) * 512)
  await expect(openFileStoreWith({}, path)).rejects.toThrow(`a ${name} container`)
})

test('content that only resembles a container is served', async () => {
  for (const [text, at] of [
    ['conectix', 1],
    ['QFI', 0],
    ['LUKS', 0],
    ['KDMV', 512],
    ['conectix', -513],
  ] as const) {
    await using store = await openFileStoreWith({}, await imageWith(text, at))
    expect(store.sectors).toBe(2048)
  }
})

describe('a guest that makes its raw disk look like a container', () => {
  const header = (uuid: string): Uint8Array =>
    Buffer.concat([Buffer.from(`LUKS\xba\xbe${uuid}`, 'latin1'), Buffer.alloc(512)]).subarray(
      0,
      512,
    )

  async function madeByGuest(): Promise<string> {
    const path = await imageWith('', 0)
    await using store = await openFileStoreWith({}, path)
    await store.write?.(0, [header('its own')])
    return path
  }

  test('gets its disk again, each time that it connects', async () => {
    const path = await madeByGuest()
    for (const _ of [1, 2]) {
      await using store = await openFileStoreWith({}, path)
      await store.write?.(9, [new Uint8Array(512)])
      expect(store.sectors).toBe(2048)
    }
  })

  test('is refused once somebody else has written another container there', async () => {
    const path = await madeByGuest()
    const content = await readFile(path)
    content.set(header("somebody else's"))
    await writeFile(path, content)
    await expectRefused(path, /LUKS/)
  })
})
