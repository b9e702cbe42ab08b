/** The socket, by hand and with Xen's own tools (Debian: xenstore-utils). */
import { execFile, spawn, spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { XS, XsPacker, XsParser } from '@xenkit/wire'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
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

test('a path in use, or in no directory, is refused', async () => {
  await expect(listenXenstored(xenstored, path)).rejects.toThrow('EADDRINUSE')
  await expect(listenXenstored(xenstored, join(directory, 'no', 'socket'))).rejects.toThrow('EACCES') // so says libuv
})

test('a client that leaves takes its watches and transactions along', async () => {
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

test('garbage ends the connection', async () => {
  const socket = connect(path)
  socket.write(Buffer.alloc(64, 0xff))
  await new Promise((resolve) => socket.resume().on('close', resolve))
  expect(xenstored.openResources()).toEqual([])
})

test('a client that sends without reading is held off, and served when it reads', async () => {
  const requests = 20_000
  const packer = new XsPacker()
  packer.append(XS.WRITE, 0, 0, '/big\0', new Uint8Array(4000))
  for (let id = 1; id <= requests; id++) packer.append(XS.READ, id, 0, '/big\0')
  const socket = connect(path)
  let answered = 0
  const parser = new XsParser((type, reqId, _txId, payload) => { if (type === XS.READ && reqId === answered + 1 && payload.length === 4000) answered++ })
  socket.pause().write(packer.take())
  await new Promise((resolve) => setTimeout(resolve, 200))
  expect(xenstored.openResources()).toEqual(['xenstore connection of domain 0'])
  socket.on('data', (bytes) => parser.push(bytes))
  socket.resume()
  await until(() => answered === requests)
  socket.destroy()
  expect(answered).toBe(requests)
})

const options = (): { env: NodeJS.ProcessEnv; timeout: number } => ({ env: { ...process.env, XENSTORED_PATH: path }, timeout: 10_000 })

const missing = spawnSync('xenstore-read', ['--help']).error ? 'xenstore-utils is not installed' : undefined

describe.skipIf(missing)(`Xen's tools${missing ? ` (skipped: ${missing})` : ''}`, () => {
  const run = promisify(execFile)
  const tool = async (name: string, ...args: string[]): Promise<string> => (await run(`xenstore-${name}`, args, options())).stdout

  test('write, read, exists, list, rm', async () => {
    await tool('write', '/a/b', 'one two', '/a/c', '')
    expect(await Promise.all([tool('read', '/a/b', '/a/c'), tool('list', '/a'), tool('exists', '/a/b')])).toEqual(['one two\n\n', 'b\nc\n', ''])
    await tool('rm', '/a/b')
    await expect(tool('exists', '/a/b')).rejects.toMatchObject({ code: 1 })
    await expect(tool('read', '/a/b')).rejects.toThrow('couldn\'t read path /a/b')
  })

  test('chmod and ls', async () => {
    await tool('write', '/a/b', '1')
    await tool('chmod', '-r', '/a', 'n5', 'r6')
    expect((await tool('ls', '-f', '-p', '/a')).replaceAll(/[ .]+/g, ' ')).toBe('/a/b = "1" (n5,r6)\n')
    expect(await tool('ls', '/')).toContain('tool = ""\n xenstored = ""\n')
  })

  test('ls of a large tree', async () => {
    const args = Array.from({ length: 300 }, (_, i) => [`/d/${i % 10}/node-${i}`, String(i)]).flat()
    await tool('write', ...args)
    expect((await tool('ls', '/d')).split('\n').length).toBe(311)
  })

  test('watch', async () => {
    const watching = spawn('xenstore-watch', ['-n', '3', '/w'], { ...options(), stdio: ['ignore', 'pipe', 'inherit'] })
    const seen: string[] = []
    for await (const line of createInterface(watching.stdout)) {
      seen.push(line)
      if (seen.length < 3) await tool('write', `/w/${seen.length}`, 'x')
    }
    expect(seen).toEqual(['/w', '/w/1', '/w/2'])
  })

  test('many at a time', async () => {
    await Promise.all(Array.from({ length: 20 }, (_, i) => tool('write', `/many/${i}`, String(i))))
    expect((await tool('list', '/many')).split('\n').filter(Boolean).toSorted()).toEqual(Array.from({ length: 20 }, (_, i) => String(i)).toSorted())
    await until(() => xenstored.openResources().length === 0)
  })
})
