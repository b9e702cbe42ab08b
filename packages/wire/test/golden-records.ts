/**
 * Sizes, offsets and constants as a C compiler computes them, for each ABI. The object file holds
 * records: "golden NAME", and the value 64 bytes further on. Nothing is run, so a 32-bit libc isn't
 * needed.
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
  // The headers in their Arm form, compiled with Arm's alignment: a u64 is aligned to 8 in 32-bit
  // code too.
  { abi: 'arm', flags: ['-m32', '-malign-double', '-U__i386__', '-D__arm__'] },
  { abi: 'arm', flags: ['-m64', '-U__x86_64__', '-D__aarch64__'] },
]

/** Why there can be no records on this machine, or undefined if there can. */
export const whyNoRecords = (): string | undefined =>
  whyNoXenC() ??
  (process.arch === 'x64' ? undefined : `gcc of ${process.arch} can't compile for every ABI`)

/** Returns name -> value, from the records that the source defines. */
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
