/** Finds who locks an image, from fdinfo: /proc/locks has pid -1 for the locks of open files. */
import { readFile, readdir } from 'node:fs/promises'
import { printable } from '@xenkit/hypervisor'

/**
 * Names a process that has a lock on a byte of a file, as far as this user can see; undefined if
 * none is found. It reads procfs alone, which answers even while other files hang.
 * @param fd the file; locks through this descriptor don't count
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
  /** Device and inode of the locked file. */
  readonly file: string
  readonly first: number
  readonly last: number
}

/**
 * Parses lines such as `lock: 1: OFDLCK ADVISORY READ -1 fe:00:1234 100 101`; `EOF` is the last
 * byte of an endless lock.
 */
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
  // A process chooses its own name, so it may hold any bytes.
  const name = (await read(`/proc/${pid}/comm`)).trimEnd()
  return `${printable(name)} (process ${pid})`
}

// Processes that have ended, or belong to another user, count as empty.
const list = (path: string): Promise<string[]> => readdir(path).catch(() => [])
const read = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '')
