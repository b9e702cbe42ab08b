/** The handshake: which answers of the server are accepted, and the error texts for all others. */
import {
  nbdInfoExport,
  nbdInfoBlockSize,
  nbdGreeting,
  NBD_TRANSMISSION,
  NBD_REP,
  NBD_OPTS_MAGIC,
  NBD_OPT,
  NBD_MAGIC,
  NBD_INFO,
  NBD_CLISERV_MAGIC,
} from '../../src/nbd/protocol.ts'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { NbdError, openNbdStore } from '../../src/index.ts'
import { HANDSHAKE_BYTES, TestNbdServer, encoded, optionReply } from './support/nbd-server.ts'
import { until } from '../../../backend/test/support/until.ts'

let server: TestNbdServer
beforeEach(async () => {
  server = await TestNbdServer.listen(64)
})
afterEach(() => server.stop())

/** Opens a store, which must fail and close its connection, and returns the error's text. */
async function failure(timeoutMs = 5000): Promise<string> {
  const error: unknown = await openNbdStore(server.uri, { timeoutMs }).catch(
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(NbdError)
  expect(error).toMatchObject({ code: 'ERR_XEN_NBD', details: { uri: server.uri } })
  await until(() => server.openConnections === 0)
  return String(error)
}

describe('the store is what the export is', () => {
  test('everything', async () => {
    await using store = await openNbdStore(server.uri)
    expect(store).toMatchObject({
      sectors: 64,
      sectorSize: 512,
      physicalSectorSize: 4096,
      discardLimits: { granularity: 4096, alignment: 0, secure: false },
    })
    expect([store.write, store.flush, store.discard].map((call) => typeof call)).toEqual([
      'function',
      'function',
      'function',
    ])
  })

  test.each([
    [
      'read-only',
      NBD_TRANSMISSION.HAS_FLAGS |
        NBD_TRANSMISSION.READ_ONLY |
        NBD_TRANSMISSION.SEND_FLUSH |
        NBD_TRANSMISSION.SEND_TRIM,
      false,
      [undefined, undefined, undefined],
    ],
    [
      'to be served read-only',
      NBD_TRANSMISSION.HAS_FLAGS | NBD_TRANSMISSION.SEND_FLUSH | NBD_TRANSMISSION.SEND_TRIM,
      true,
      [undefined, undefined, undefined],
    ],
    [
      'without flush',
      NBD_TRANSMISSION.HAS_FLAGS | NBD_TRANSMISSION.SEND_TRIM,
      false,
      ['write', undefined, 'discard'],
    ],
    [
      'without trim',
      NBD_TRANSMISSION.HAS_FLAGS | NBD_TRANSMISSION.SEND_FLUSH,
      false,
      ['write', 'flush', undefined],
    ],
  ])('%s', async (_, flags, readOnly, calls) => {
    server.flags = flags
    await using store = await openNbdStore(server.uri, { readOnly })
    expect([store.write && 'write', store.flush && 'flush', store.discard && 'discard']).toEqual(
      calls,
    )
    expect(store.discardLimits !== undefined).toBe(calls[2] !== undefined)
  })

  test.each([
    [{ minimum: 512, preferred: 512, maximum: 65536 }, 512, 512],
    [{ minimum: 1024, preferred: 1024, maximum: 65536 }, 4096, 4096],
    [{ minimum: 4096, preferred: 65536, maximum: 65536 }, 4096, 65536],
  ])('block sizes %j', async (sizes, sectorSize, physicalSectorSize) => {
    server.sizes = sizes
    await using store = await openNbdStore(server.uri)
    expect(store).toMatchObject({
      sectorSize,
      physicalSectorSize,
      discardLimits: { granularity: physicalSectorSize },
    })
  })

  test('a preferred block too large for a physical sector', async () => {
    server.sizes = { minimum: 1, preferred: 2 ** 31, maximum: 2 ** 31 }
    await using store = await openNbdStore(server.uri)
    expect(store).toMatchObject({
      physicalSectorSize: 512,
      discardLimits: { granularity: 2 ** 31 },
    })
  })

  test('requests keep to the largest payload, in whole sectors, and their pieces to their places', async () => {
    server.sizes = { minimum: 512, preferred: 512, maximum: 1500 }
    await using store = await openNbdStore(server.uri)
    const data = new Uint8Array(9 * 512).map((_, i) => (i * 7) & 255)
    await store.write?.(3, [data.subarray(0, 700), data.subarray(700, 701), data.subarray(701)])
    expect(server.requests.map(({ offset, length }) => [offset, length])).toEqual([
      [3 * 512, 1024],
      [5 * 512, 1024],
      [7 * 512, 1024],
      [9 * 512, 1024],
      [11 * 512, 512],
    ])
    expect(Buffer.compare(server.bytes.subarray(3 * 512, 12 * 512), data)).toBe(0)
    const got = [new Uint8Array(1300), new Uint8Array(9 * 512 - 1300)]
    await store.read(3, got)
    expect(Buffer.compare(Buffer.concat(got), data)).toBe(0)
  })
})

describe("an export that a guest can't have", () => {
  test.each([
    [
      "blocks larger than any guest's",
      () => {
        server.sizes = { minimum: 8192, preferred: 8192, maximum: 65536 }
      },
      /whole 8192 bytes only.*--filter=blocksize/,
    ],
    [
      'nothing in it',
      () => {
        server.bytes = new Uint8Array(0)
      },
      /the export is empty/,
    ],
    [
      'half a sector',
      () => {
        server.bytes = new Uint8Array(1000)
      },
      /1000 bytes, not a multiple of 512.*round-up=512/,
    ],
    [
      'half a large sector',
      () => {
        server.bytes = new Uint8Array(512)
        server.sizes = { minimum: 4096, preferred: 4096, maximum: 65536 }
      },
      /512 bytes, not a multiple of 4096/,
    ],
    [
      'a payload of less than a sector',
      () => {
        server.sizes = { minimum: 1, preferred: 1, maximum: 100 }
      },
      /100 bytes at most/,
    ],
  ])('%s', async (_, arrange, says) => {
    arrange()
    expect(await failure()).toMatch(says)
  })
})

const refusing =
  (type: number, text = ''): (() => Uint8Array) =>
  () =>
    optionReply(NBD_OPT.GO, type, new TextEncoder().encode(text))
const infos =
  (...all: Uint8Array[]): (() => Uint8Array) =>
  () =>
    Buffer.concat([
      ...all.map((info) => optionReply(NBD_OPT.GO, NBD_REP.INFO, info)),
      optionReply(NBD_OPT.GO, NBD_REP.ACK),
    ])
const about = encoded(nbdInfoExport, { type: NBD_INFO.EXPORT, size: 512n, flags: 1 })
const sizes = (minimum: number, preferred: number, maximum: number): Uint8Array =>
  encoded(nbdInfoBlockSize, { type: NBD_INFO.BLOCK_SIZE, minimum, preferred, maximum })

test.each([
  [
    'no such export',
    refusing(NBD_REP.ERR_UNKNOWN, 'ask\nme'),
    /no export "test": the server says "ask\\nme"/,
  ],
  [
    'words that would move the cursor and turn the line',
    refusing(NBD_REP.ERR_POLICY, '\x9b2J\x7f\u202e'),
    /the server says "\\u009b2J\\u007f\\u202e"$/,
  ],
  ['TLS demanded', refusing(NBD_REP.ERR_TLS_REQD), /demands TLS: use nbds:\/\//],
  ['no GO', refusing(NBD_REP.ERR_UNSUP), /lacks NBD_OPT_GO/],
  ['shutting down', refusing(NBD_REP.ERR_SHUTDOWN), /being shut down/],
  ['a policy', refusing(NBD_REP.ERR_POLICY), /refused with NBD_REP_ERR_POLICY/],
  ['an error nobody knows', refusing(0x8000_0099), /refused with 0x80000099/],
  ['an answer nobody knows', refusing(77), /"type" expected NBD_REP_ACK, got 77/],
  [
    'an answer to something else',
    () => optionReply(NBD_OPT.STARTTLS, NBD_REP.ACK),
    /"option" expected 0x7, got 0x5/,
  ],
  [
    "an answer that isn't one",
    () => new Uint8Array(20),
    /"magic" expected 0x3e889045565a9, got 0x0/,
  ],
  ['nothing of the export', infos(), /said nothing of the export/],
  ['an info of another length', infos(about.subarray(0, 11)), /"length" expected 0xc, got 0xb/],
  ['an info without a type', infos(new Uint8Array(1)), /"length" expected 0x2, got 0x1/],
  [
    'a smallest block of 0',
    infos(about, sizes(0, 4096, 65536)),
    /"minimum" expected a power of two up to 65536, got 0/,
  ],
  ['a smallest block of 3', infos(about, sizes(3, 4096, 65536)), /"minimum" .* got 3/],
  [
    'a smallest block too large',
    infos(about, sizes(131072, 131072, 1 << 20)),
    /"minimum" .* got 131072/,
  ],
  [
    'a preferred block below it',
    infos(about, sizes(4096, 512, 65536)),
    /"preferred" expected a power of two from 4096, got 512/,
  ],
  [
    'a largest payload below it',
    infos(about, sizes(512, 512, 256)),
    /"maximum" expected at least 512, got 256/,
  ],
  [
    'more than there is room for',
    infos(encoded(nbdInfoExport, { type: NBD_INFO.EXPORT, size: 2n ** 63n, flags: 1 })),
    /more than 2\^52/,
  ],
  [
    'a length without end',
    () => optionReply(NBD_OPT.GO, NBD_REP.INFO, about).fill(0xff, 16, 20),
    /a message of 4294967295 bytes/,
  ],
  [
    'more than was asked for',
    () => Buffer.concat([infos(about)(), new Uint8Array(1)]),
    /sent 1 bytes that nobody asked for/,
  ],
] as const)('the server answers with %s', async (_, onOption, says) => {
  server.behaviour = () => ({ onOption })
  expect(await failure()).toMatch(says)
})

test('unknown infos are ignored', async () => {
  server.behaviour = () => ({ onOption: infos(Uint8Array.of(0, 2, 1, 2, 3), about) })
  await using store = await openNbdStore(server.uri)
  expect(store.sectors).toBe(1)
})

test.each([
  [
    'HTTP',
    new TextEncoder().encode('HTTP/1.1 400 Bad Request\r\n\r\n'),
    /"magic" expected 0x4e42444d41474943, got 0x485454502f312e31/,
  ],
  [
    'oldstyle NBD',
    encoded(nbdGreeting, { magic: NBD_MAGIC, style: NBD_CLISERV_MAGIC, flags: 0 }),
    /oldstyle/,
  ],
  [
    'a style of its own',
    encoded(nbdGreeting, { magic: NBD_MAGIC, style: 5n, flags: 0 }),
    /"style"/,
  ],
  [
    "newstyle that isn't fixed",
    encoded(nbdGreeting, { magic: NBD_MAGIC, style: NBD_OPTS_MAGIC, flags: 0 }),
    /fixed newstyle/,
  ],
  ['without end', new Uint8Array(1 << 20), /a message of \d+ bytes|"magic"/],
])('a server that speaks %s', async (_, greeting, says) => {
  server.behaviour = () => ({ greeting })
  expect(await failure()).toMatch(says)
})

test('a server without TLS, when TLS is wanted', async () => {
  const uri = server.uri.replace('nbd:', 'nbds:')
  await expect(openNbdStore(uri)).rejects.toThrow(/the server has no TLS: use nbd:\/\//)
})

test('plain text that came before TLS does not count as encrypted', async () => {
  server.behaviour = () => ({
    onOption: (option) =>
      Buffer.concat([optionReply(option, NBD_REP.ACK), optionReply(NBD_OPT.GO, NBD_REP.ACK)]),
  })
  await expect(openNbdStore(server.uri.replace('nbd:', 'nbds:'))).rejects.toThrow(
    /sent 20 bytes that nobody asked for/,
  )
})

const greeting = encoded(nbdGreeting, { magic: NBD_MAGIC, style: NBD_OPTS_MAGIC, flags: 3 })

test('a server that sends nothing, or stops in the middle, is given up', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: HANDSHAKE_BYTES - 1 }),
      fc.boolean(),
      async (bytes, cut) => {
        server.behaviour = () =>
          cut
            ? { cutAfterSending: bytes }
            : { greeting: greeting.subarray(0, Math.min(bytes, greeting.length - 1)) }
        expect(await failure(cut ? 5000 : 50)).toMatch(
          cut ? /closed the connection|ECONNRESET|EPIPE/ : /no NBD handshake within 50 ms/,
        )
      },
    ),
    { numRuns: 40 },
  )
})

test('nobody there', async () => {
  await server.stop()
  expect(await failure()).toMatch(/ECONNREFUSED/)
  await expect(openNbdStore('nbd+unix:///?socket=/no/such.sock')).rejects.toThrow(/ENOENT/)
})

test.each([
  [{ connections: 0 }, RangeError],
  [{ connections: 1.5 }, TypeError],
  [{ timeoutMs: 0 }, RangeError],
  [{ reconnectMs: -1 }, RangeError],
  [{ reconnectMs: 2 ** 31 }, RangeError],
  [{ tls: {} }, TypeError],
])('options %j', (o, type) => expect(openNbdStore(server.uri, o)).rejects.toThrow(type))
