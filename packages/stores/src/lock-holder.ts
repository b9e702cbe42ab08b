/** Who has a lock on an image. /proc/locks says -1 of an open file's lock, fdinfo more. */
import { readFile, readdir } from 'node:fs/promises'
import { printable } from '@xenkit/hypervisor'

/**
 * The process that has a lock on a byte of a file, as far as this user may see; undefined for none.
 * Only procfs is read: it answers also while a file that somebody has open doesn't.
 * @param fd has locks of its own on the file, which aren't meant
 */
export async function lockHolder(fd: number, byte: number): Promise<string | undefined> {
  const own = String(fd)
  const file = (await locksOf(process.pid, own))[0]?.file
  for (const pid of (await list('/proc')).map(Number).filter(Number.isInteger)) {
    const fds = (await list(`/proc/${pid}/fdinfo`)).filter(
      (other) => pid !== process.pid || other !== own,
    )
    const locks = (await Promise.all(fds.map((other) => locksOf(pid, other)))).flat()
    const found = locks.some((it) => it.file === file && it.first <= byte && byte <= it.last)
    if (found) return nameOf(pid)
  }
  return undefined
}

interface Lock {
  /** Device and inode. */
  readonly file: string
  readonly first: number
  readonly last: number
}

/** Lines such as `lock: 1: OFDLCK ADVISORY READ -1 fe:00:1234 100 101`, or `EOF` for the end. */
async function locksOf(pid: number, fd: string): Promise<Lock[]> {
  const text = await read(`/proc/${pid}/fdinfo/${fd}`)
  return [...text.matchAll(/^lock:.* (\S+:\d+) (\d+) (\d+|EOF)$/gm)].map(
    ([, file = '', first, last]) => ({
      file,
      first: Number(first),
      last: last === 'EOF' ? Infinity : Number(last),
    }),
  )
}

async function nameOf(pid: number): Promise<string> {
  if (pid === process.pid) return 'this process'
  // Every process may call itself what it likes.
  const name = (await read(`/proc/${pid}/comm`)).trimEnd()
  return `${printable(name)} (process ${pid})`
}

// What ended meanwhile, or is another user's, says nothing.
const list = (path: string): Promise<string[]> => readdir(path).catch(() => [])
const read = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '')
