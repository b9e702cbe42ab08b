import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ByteStreamReceiver, NotAvailableError } from '@xenkit/hypervisor'
import { loadNative } from '@xenkit/native'
import { XS, XsPacker, XsParser } from '@xenkit/wire'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { XenArena } from '../src/arena.ts'
import { readDomid } from '../src/own-domid.ts'
import { messageCutter } from '../src/xenbus-transport.ts'
import { XenXenstore } from '../src/xenstore.ts'
import { xenstoreSocket } from '../src/xenstored-socket.ts'

let directory: string
let path: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'xenkit-'))
  path = join(directory, 'socket')
  vi.stubEnv('XENSTORED_PATH', path)
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(directory, { recursive: true })
})

async function listen(serve: (socket: Socket) => void): Promise<void> {
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {}) // a client may hang up early
    serve(socket)
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  onTestFinished(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
}

/** A server that answers every request with one type and payload. */
function answering(type: number, payload: string): (socket: Socket) => void {
  return (socket) => {
    const parser = new XsParser((_type, reqId) => {
      const packer = new XsPacker()
      packer.append(type, reqId, 0, payload)
      socket.write(packer.take())
    })
    socket.on('data', (bytes) => parser.push(bytes))
  }
}

function openStore(): XenXenstore {
  const native = loadNative()
  return new XenXenstore(native, new XenArena(native, 4))
}

/** A receiver that collects the bytes of a stream. */
function receiver(): ByteStreamReceiver & {
  readonly bytes: number[]
  readonly reason: Promise<Error>
} {
  const bytes: number[] = []
  let closed: (reason: Error) => void = () => {}
  const reason = new Promise<Error>((resolve) => {
    closed = resolve
  })
  return { bytes, reason, data: (chunk) => void bytes.push(...chunk), closed: (why) => closed(why) }
}

describe('the socket', () => {
  test('carries bytes both ways', async () => {
    await listen((socket) => socket.pipe(socket))
    const heard = receiver()
    const stream = await openStore().connect(heard)
    stream.write(Uint8Array.of(1, 2, 3))
    await vi.waitFor(() => expect(heard.bytes).toEqual([1, 2, 3]))
    stream.close()
  })

  test('copies the bytes written, so that the caller may change them', async () => {
    const got: Buffer[] = []
    await listen((socket) => socket.on('data', (bytes) => got.push(bytes)))
    const stream = await openStore().connect(receiver())
    const bytes = new Uint8Array(4_000_000).fill(1) // more than a socket holds
    stream.write(bytes)
    bytes.fill(9)
    await vi.waitFor(() =>
      expect(got.reduce((sum, chunk) => sum + chunk.length, 0)).toBe(bytes.length),
    )
    expect(Buffer.concat(got).includes(9)).toBe(false)
    stream.close()
  })

  test('delivers nothing after close', async () => {
    await listen((socket) => socket.on('data', () => socket.end(Uint8Array.of(1))))
    const heard = { data: vi.fn<() => void>(), closed: vi.fn<() => void>() }
    const stream = await openStore().connect(heard)
    stream.write(Uint8Array.of(1))
    stream.close()
    stream.close()
    stream.write(Uint8Array.of(1))
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(heard.data).not.toHaveBeenCalled()
    expect(heard.closed).not.toHaveBeenCalled()
  })

  test('reports when xenstored ends', async () => {
    await listen((socket) => socket.destroy())
    const heard = receiver()
    await openStore().connect(heard)
    expect((await heard.reason).message).toMatch(/^xenstored ended the connection: E[A-Z]+$/)
  })

  test('ends with the hypervisor', async () => {
    await listen(() => {})
    const store = openStore()
    const heard = receiver()
    await store.connect(heard)
    store.close()
    expect(await heard.reason).toBeInstanceOf(NotAvailableError)
    await expect(store.connect(receiver())).rejects.toThrow(NotAvailableError)
  })

  test('without a listener is an error that says what to do', async () => {
    const connecting = openStore().connect(receiver())
    await expect(connecting).rejects.toThrow(NotAvailableError)
    await expect(connecting).rejects.toThrow(
      `cannot connect to xenstored at "${path}" (ENOENT): start xenstored`,
    )
  })
})

describe('XENSTORED_PATH of a device', () => {
  test('is opened as a device, in place of /dev/xen/xenbus', async () => {
    vi.stubEnv('XENSTORED_PATH', '/dev/null') // opens, but can't be polled
    const connecting = openStore().connect(receiver())
    await expect(connecting).rejects.toThrow(NotAvailableError)
    await expect(connecting).rejects.toThrow('cannot open "/dev/null" (EPERM)')
  })

  test('sends and receives through it', async () => {
    vi.stubEnv('XENSTORED_PATH', '/dev/ptmx') // a terminal device, which sends back what is written
    const heard = receiver()
    const stream = await openStore().connect(heard)
    const packer = new XsPacker()
    packer.append(XS.READ, 1, 0, 'domid\0')
    stream.write(packer.take())
    // the terminal echoes NUL as "^@", which is no header
    expect((await heard.reason).message).toContain('xenstore header field "len"')
  })

  test('that is neither a device nor a socket is an error', async () => {
    writeFileSync(path, '')
    const connecting = openStore().connect(receiver())
    await expect(connecting).rejects.toThrow(`cannot connect to xenstored at "${path}"`)
  })
})

describe('a socket by its path', () => {
  beforeEach(() => vi.stubEnv('XENSTORED_PATH', '/nowhere'))

  test('needs no hypervisor', async () => {
    await listen((socket) => socket.pipe(socket))
    const heard = receiver()
    const stream = await xenstoreSocket(path).connect(heard)
    stream.write(Uint8Array.of(1, 2, 3))
    await vi.waitFor(() => expect(heard.bytes).toEqual([1, 2, 3]))
    stream.close()
  })

  test('reports when xenstored ends', async () => {
    await listen((socket) => socket.destroy())
    const heard = receiver()
    await xenstoreSocket(path).connect(heard)
    expect((await heard.reason).message).toMatch(/^xenstored ended the connection: E[A-Z]+$/)
  })

  test('without a listener is an error', async () => {
    const connecting = xenstoreSocket(path).connect(receiver())
    await expect(connecting).rejects.toThrow(NotAvailableError)
    await expect(connecting).rejects.toThrow(`cannot connect to xenstored at "${path}" (ENOENT)`)
  })
})

describe('the id of this domain', () => {
  test('is the value that xenstored returns', async () => {
    await listen(answering(XS.READ, '17'))
    await expect(readDomid(openStore())).resolves.toBe(17)
  })

  test.each([
    [XS.ERROR, 'ENOENT\0', 'reading "domid" gave "ENOENT\\u0000"'],
    [XS.READ, '', 'expected a domid, got ""'],
    [XS.READ, '32752', 'expected a domid, got "32752"'],
    [XS.READ, '1e3', 'expected a domid, got "1e3"'],
  ])('is refused if xenstored answers %i %j', async (type, payload, text) => {
    await listen(answering(type, payload))
    const asking = readDomid(openStore())
    await expect(asking).rejects.toThrow(NotAvailableError)
    await expect(asking).rejects.toThrow(text)
  })

  test('is an error if xenstored hangs up', async () => {
    await listen((socket) => socket.destroy())
    await expect(readDomid(openStore())).rejects.toThrow('xenstored ended the connection')
  })
})

describe('messages for the xenbus device', () => {
  const packer = new XsPacker()
  packer.append(XS.READ, 1, 2, 'domid\0')
  packer.append(XS.DIRECTORY, 3, 0, '')
  packer.append(XS.WRITE, 4, 0, 'a\0', new Uint8Array(4078))
  const stream = packer.take().slice()
  const sizes = [16 + 6, 16, 16 + 4080]

  test.each([1, 15, 16, 23, 4080, stream.length])(
    'are sent one by one, however the stream is split (%i bytes at a time)',
    (step) => {
      const sent: Uint8Array[] = []
      const cutter = messageCutter({
        send: (message) => sent.push(message),
        refuse: () => expect.unreachable(),
      })
      for (let at = 0; at < stream.length; at += step) cutter.push(stream.subarray(at, at + step))
      expect(sent.map((message) => message.length)).toEqual(sizes)
      expect(Buffer.concat(sent).equals(stream)).toBe(true)
    },
  )

  test.each([
    ["end the kernel's own watches", 'EACCES', XS.RESET_WATCHES, new Uint8Array(1)],
    ["exceed the driver's buffer", 'E2BIG', XS.WRITE, new Uint8Array(4081)],
    [
      'limit a watch to a depth, which the driver ignores',
      'EINVAL',
      XS.WATCH,
      Buffer.from('/a\0token\x001\0'),
    ],
  ])('never %s: %s', (_, errno, type, payload) => {
    const packer = new XsPacker()
    packer.append(type, 7, 3, '', payload)
    packer.append(XS.WRITE, 8, 0, '', new Uint8Array(4080))
    packer.append(XS.WATCH, 9, 0, '/a\0token\0')
    const [sent, refused] = [vi.fn<() => void>(), vi.fn<() => void>()]
    messageCutter({ send: sent, refuse: refused }).push(packer.take())
    expect(refused.mock.calls).toEqual([[7, 3, errno]])
    expect(sent).toHaveBeenCalledTimes(2)
  })
})
