/**
 * The embedded xenstored's Unix socket. packages/xenkit/test has tests with third-party clients.
 */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, statSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { NotAvailableError } from '@xenkit/hypervisor'
import { XS, XsPacker, XsParser } from '@xenkit/wire'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { listenXenstored, type XenstoredSocket } from '../src/socket.ts'
import { Xenstored } from '../src/xenstored/index.ts'

let directory: string
let path: string
let xenstored: Xenstored
let listening: XenstoredSocket

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xenstored-'))
  path = join(directory, 'socket')
  xenstored = new Xenstored()
  listening = await listenXenstored(xenstored, path)
})

afterEach(async () => {
  await listening.close()
  await rm(directory, { recursive: true })
})

const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}

describe('a socket that can not be made', () => {
  test('one in use stays with its owner', async () => {
    await expect(listenXenstored(new Xenstored(), path)).rejects.toThrow(
      `no xenstored can listen on "${path}": it is in use; stop the xenstored that listens there or choose another path`,
    )
    await once(connect(path), 'connect')
  })

  test.each([
    [
      'a path that is too long',
      () => join(directory, 'x'.repeat(100)),
      "a socket's path has 1 to 107 bytes",
    ],
    ['no path', () => '', "a socket's path has 1 to 107 bytes"],
    ['no directory', () => join(directory, 'none', 'socket'), 'its directory does not exist'],
    ['a directory', () => directory, 'it exists and is not a socket'],
  ])('%s', async (_, where, says) => {
    const refused = listenXenstored(xenstored, where())
    await expect(refused).rejects.toThrow(says)
    await expect(refused).rejects.toBeInstanceOf(NotAvailableError)
  })

  test('a file, which stays', async () => {
    const file = join(directory, 'file')
    await writeFile(file, 'kept')
    await expect(listenXenstored(xenstored, file)).rejects.toThrow('it exists and is not a socket')
    expect(await readFile(file, 'utf8')).toBe('kept')
  })
})

test('a stale socket of a killed process is replaced', async () => {
  const stale = join(directory, 'stale')
  spawnSync(process.execPath, [
    '-e',
    `require('net').createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, 'SIGKILL'))`,
  ])
  expect((await stat(stale)).isSocket()).toBe(true)
  await using again = await listenXenstored(xenstored, stale)
  await once(connect(again.path), 'connect')
})

/** `watch` runs before each chmod of a socket; a test may replace it. */
const chmods = vi.hoisted(() => ({ watch: (_path: string): void => {} }))
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>()
  const chmod: typeof real.chmod = async (...args) => {
    chmods.watch(String(args[0]))
    await real.chmod(...args)
  }
  return { ...real, chmod }
})

test('no other user can connect before its mode is set, whatever the umask', async () => {
  const umask = process.umask(0)
  onTestFinished(() => {
    process.umask(umask)
  })
  const early = join(directory, 'early')
  const reachable: boolean[] = []
  chmods.watch = (made) => {
    const isOpen = existsSync(early) && (statSync(early).mode & 0o077) !== 0
    reachable.push(isOpen || (statSync(dirname(made)).mode & 0o077) !== 0)
  }
  onTestFinished(() => {
    chmods.watch = () => {}
  })
  const before = await readdir(directory)
  await using other = await listenXenstored(xenstored, early)
  expect(reachable).toEqual([false])
  expect((await stat(other.path)).mode & 0o777).toBe(0o600)
  expect((await readdir(directory)).toSorted()).toEqual([...before, 'early'].toSorted())
})

test('only its user may connect, and it is removed at the end', async () => {
  expect((await stat(path)).mode & 0o777).toBe(0o600)
  await listening.close()
  await expect(stat(path)).rejects.toThrow('ENOENT')
})

test("a client's watches and transactions end with its connection", async () => {
  const socket = connect(path)
  const packer = new XsPacker()
  packer.append(XS.WATCH, 1, 0, '/\0t\0')
  packer.append(XS.TRANSACTION_START, 2, 0, '\0')
  socket.write(packer.take())
  await until(() => xenstored.openResources().length === 3)
  socket.destroy()
  await until(() => xenstored.openResources().length === 0)
  expect(xenstored.openResources()).toEqual([])
})

test('a client that closes its half still gets its replies', async () => {
  const socket = connect({ path, allowHalfOpen: true })
  const packer = new XsPacker()
  for (let id = 1; id <= 1000; id++) {
    packer.append(XS.WRITE, id, 0, `/n${id % 10}\0`, new Uint8Array(2000))
  }
  socket.end(packer.take())
  let answered = 0
  const parser = new XsParser((_, reqId) => {
    if (reqId === answered + 1) answered++
  })
  socket.on('data', (bytes) => parser.push(bytes))
  await once(socket, 'end')
  expect(answered).toBe(1000)
  expect(xenstored.openResources()).toEqual([])
})

test('an incomplete message at the end is ignored', async () => {
  const socket = connect({ path, allowHalfOpen: true })
  socket.resume().end(Buffer.alloc(15))
  await once(socket, 'end')
  expect(xenstored.openResources()).toEqual([])
})

test('garbage ends the connection', async () => {
  const socket = connect(path)
  socket.write(Buffer.alloc(64, 0xff))
  await new Promise((resolve) => socket.resume().on('close', resolve))
  expect(xenstored.openResources()).toEqual([])
})

test('a client that sends without reading must wait, and is served when it reads', async () => {
  const requests = 20_000
  const packer = new XsPacker()
  packer.append(XS.WRITE, 0, 0, '/big\0', new Uint8Array(4000))
  for (let id = 1; id <= requests; id++) packer.append(XS.READ, id, 0, '/big\0')
  const socket = connect(path)
  let answered = 0
  const parser = new XsParser((type, reqId, _txId, payload) => {
    if (type === XS.READ && reqId === answered + 1 && payload.length === 4000) answered++
  })
  socket.pause().write(packer.take())
  await until(() => xenstored.dom0.used('memory') > 256 * 1024)
  expect(xenstored.openResources()).toEqual(['xenstore connection of domain 0'])
  socket.on('data', (bytes) => parser.push(bytes))
  socket.resume()
  await until(() => answered === requests)
  socket.destroy()
  expect(answered).toBe(requests)
})
