/**
 * Sizes, offsets and constants as a C compiler computes them, for each ABI. The compiled object
 * file holds records: the text "golden NAME", and the value 64 bytes after it. The file is only
 * read, never run, so a 32-bit libc isn't needed.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Abi } from '../src/index.ts'
import { compileC, whyNoXenC } from './compile-c.ts'

/** Flags with which gcc of x86_64 compiles for an ABI. */
export const ABIS: readonly { readonly abi: Abi; readonly flags: readonly string[] }[] = [
  { abi: 'x86_64', flags: ['-m64'] },
  { abi: 'x86_32', flags: ['-m32'] },
  // Xen's headers in their Arm form. `-malign-double` aligns a u64 to 8 in 32-bit code too, as Arm
  // does.
  { abi: 'arm', flags: ['-m32', '-malign-double', '-U__i386__', '-D__arm__'] },
  { abi: 'arm', flags: ['-m64', '-U__x86_64__', '-D__aarch64__'] },
]

/** Says why C can't be compiled for all the ABIs on this machine; undefined if it can. */
export const whyNoRecords = (): string | undefined =>
  whyNoXenC() ??
  (process.arch === 'x64' ? undefined : `gcc of ${process.arch} can't compile for every ABI`)

/** Compiles the source and returns its records: name -> value. */
export function goldenRecords(source: string, flags: readonly string[]): Map<string, number> {
  const directory = mkdtempSync(join(tmpdir(), 'xenkit-golden-'))
  try {
    const [file, object] = [join(directory, 'golden.c'), join(directory, 'golden.o')]
    writeFileSync(file, source)
    compileC(file, object, '-c', ...flags)
    return recordsOf(readFileSync(object))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

function recordsOf(object: Buffer): Map<string, number> {
  const prefix = 'golden '
  const records = new Map<string, number>()
  for (let at = object.indexOf(prefix); at !== -1; at = object.indexOf(prefix, at + 1)) {
    const name = object.toString('latin1', at + prefix.length, object.indexOf(0, at))
    records.set(name, object.readInt32LE(at + 64))
  }
  return records
}
