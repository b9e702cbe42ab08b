/**
 * Decompresses the hypervisor and the kernel when the image is built. Software emulation is slow at
 * decompression, and each guest would have to repeat it.
 */
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { spawnSync } from 'node:child_process'

const ELF_MAGIC = Buffer.from('\x7fELF', 'latin1')
const ZSTD_MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd])

/** Writes the ELF image of Xen in `tree/boot` to `target`. */
export async function extractXen(tree: string, target: string): Promise<void> {
  const xen = await onlyFile(join(tree, 'boot'), /^xen-[\d.]+-amd64\.gz$/)
  await writeFile(target, gunzipSync(await readFile(xen)))
}

/** Writes the ELF kernel inside `tree/boot/vmlinuz-VERSION` to `target`; returns VERSION. */
export async function extractKernel(tree: string, target: string): Promise<string> {
  const vmlinuz = await onlyFile(join(tree, 'boot'), /^vmlinuz-/)
  await writeFile(target, decompress(payloadOf(await readFile(vmlinuz))))
  return basename(vmlinuz).slice('vmlinuz-'.length)
}

/**
 * Returns the compressed kernel within a bzImage. Fields of the Linux/x86 boot protocol 2.08:
 * setup_sects at 0x1f1, payload_offset at 0x248 (relative to the protected-mode code),
 * payload_length at 0x24c.
 */
export function payloadOf(bzImage: Buffer): Buffer {
  if (bzImage.toString('latin1', 0x202, 0x206) !== 'HdrS') {
    throw new Error('not a bzImage: no "HdrS" at 0x202')
  }
  const protectedMode = (bzImage.readUInt8(0x1f1) + 1) * 512
  const start = protectedMode + bzImage.readUInt32LE(0x248)
  return bzImage.subarray(start, start + bzImage.readUInt32LE(0x24c))
}

/**
 * Decompresses a kernel, which Debian 12 compresses with xz and Debian 13 with zstd. The kernel's
 * build appends 4 bytes with the uncompressed size. They are cut off, because both programs would
 * report a broken stream.
 */
function decompress(payload: Buffer): Buffer {
  const program = payload.subarray(0, 4).equals(ZSTD_MAGIC) ? 'zstd' : 'xz'
  const { status, stdout, stderr, error } = spawnSync(program, ['--decompress', '--stdout'], {
    input: payload.subarray(0, -4),
    maxBuffer: 1 << 28,
  })
  if (error) throw error
  if (status !== 0 || !stdout.subarray(0, 4).equals(ELF_MAGIC)) {
    throw new Error(
      `the kernel's payload isn't an ELF file compressed with ${program}: ${stderr.toString()}`,
    )
  }
  return stdout
}

async function onlyFile(directory: string, pattern: RegExp): Promise<string> {
  const found = (await readdir(directory)).filter((name) => pattern.test(name))
  if (found.length !== 1 || found[0] === undefined) {
    throw new Error(`"${directory}" should hold one file like ${pattern}, it has ${found.length}`)
  }
  return join(directory, found[0])
}
