/** xenkit on a machine where the addon can't be loaded. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { openFileStore } from '../src/index.ts'

vi.mock('@xenkit/xen', () => ({
  discardRange: () => undefined,
  lockBytes: () => undefined,
  openFileBatch: () => undefined,
  openMemory: () => undefined,
}))

test('images are served without locks, with one warning', async () => {
  const warned = vi.spyOn(process, 'emitWarning').mockReturnValue()
  const folder = mkdtempSync(join(tmpdir(), 'xenkit-without-'))
  const path = join(folder, 'disk.img')
  writeFileSync(path, new Uint8Array(4096))
  try {
    // No warning is due if locking is off, or the image is opened read-only.
    for (const o of [{ locking: false }, { readOnly: true }]) {
      await (await openFileStore(path, o)).close()
    }
    expect(warned).not.toHaveBeenCalled()
    await using first = await openFileStore(path)
    await using second = await openFileStore(path)
    expect([first.sectors, second.sectors]).toEqual([8, 8])
    expect(warned.mock.calls).toEqual([
      [
        expect.stringContaining("aren't locked"),
        expect.objectContaining({ code: 'XENKIT_NO_LOCKS' }),
      ],
    ])
  } finally {
    rmSync(folder, { recursive: true })
  }
})
