/** Attacks by one client on other clients or on the server's memory. All of them must fail. */
import { XS, XSD_ERRORS, XsPacker, XsParser, xsdSockmsg } from '@xenkit/wire'
import * as fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import { Xenstored } from '../../src/xenstored/index.ts'
import { RawXenstore, startXenstored, until } from '../support/raw-xenstore.ts'

let xenstored: Xenstored
let log: string[]
let dom0: RawXenstore
let dom5: RawXenstore

beforeEach(async () => {
  log = []
  ;({ xenstored, dom0, dom5 } = await startXenstored({ log: (line) => log.push(line) }))
})

describe('messages', () => {
  test.each([
    [XS.READ, ''],
    [XS.READ, '/a'],
    [XS.READ, '/a|x'],
    [XS.READ, '/a|x|'],
    [XS.WRITE, '/a'],
    [XS.WRITE, ''],
    [XS.SET_PERMS, '/tool|'],
    [XS.SET_PERMS, '/tool'],
    [XS.WATCH, '/a|'],
    [XS.WATCH, '/a|t|1|x|'],
    [XS.UNWATCH, '/a|'],
    [XS.TRANSACTION_END, 'T'],
    [XS.TRANSACTION_END, 'X|'],
  ])('%d "%s" is EINVAL', async (type, payload) => {
    expect(await dom0.ask(type, payload)).toBe('EINVAL')
  })

  test.each([XS.WATCH_EVENT, XS.ERROR, XS.RESTRICT, 27, 0xffff, 0xffff_ffff])(
    'type %d is ENOSYS',
    async (type) => {
      expect(await dom0.ask(type, '/|')).toBe('ENOSYS')
    },
  )

  test('tx_id counts in all but WATCH and UNWATCH', async () => {
    const types = Object.values(XS).filter(
      (type) => ![XS.WATCH_EVENT, XS.ERROR, XS.RESTRICT].some((other) => other === type),
    )
    const answers = await Promise.all(
      types.map(async (type) => [type, await dom0.ask(type, '/a|t|', 99)] as const),
    )
    expect(answers.filter(([, answer]) => answer !== 'ENOENT')).toEqual([
      [XS.WATCH, 'OK|'],
      [XS.UNWATCH, 'OK|'],
    ])
  })

  test('RESET_WATCHES drops watches and transactions, including its own', async () => {
    await dom5.watch('x', 't')
    const [one, two] = [await dom5.begin(), await dom5.begin()]
    expect(await dom5.ask(XS.RESET_WATCHES, '|', one)).toBe('OK|')
    expect(await Promise.all([dom5.end(one), dom5.end(two), dom5.unwatch('x', 't')])).toEqual([
      'ENOENT',
      'ENOENT',
      'ENOENT',
    ])
    expect(
      ['watches', 'transactions'].map((what) =>
        xenstored.domains.get(5)?.used(what === 'watches' ? 'watches' : 'transactions'),
      ),
    ).toEqual([0, 0])
  })

  test('UNWATCH of a path that can not be watched is ENOENT', async () => {
    expect(await Promise.all([dom0.unwatch('/a//', 't'), dom0.unwatch('', 't')])).toEqual([
      'ENOENT',
      'ENOENT',
    ])
  })

  test('any message gets exactly one reply and affects no other client', async () => {
    const payload = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc
        .array(
          fc.constantFrom(
            '/',
            'a',
            'local/domain/5',
            '@releaseDomain',
            '\0',
            'n5',
            'r0',
            'T',
            '0',
            '5',
            '99999999999',
            'quota',
            'set',
            'nodes',
          ),
          { maxLength: 8 },
        )
        .map((parts) => Buffer.from(parts.join(''))),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(30), fc.nat(3), payload), { maxLength: 30 }),
        fc.constantFrom(0, 5),
        async (messages, domid) => {
          const { xenstored: server, dom0: witness } = await startXenstored()
          const asked = messages.length
          const answers: number[] = []
          const errnos = new Set<string>()
          const parser = new XsParser((type, reqId, _txId, bytes) => {
            if (type !== XS.WATCH_EVENT) answers.push(reqId)
            if (type === XS.ERROR) errnos.add(Buffer.from(bytes).toString())
          })
          let isOver = false
          const fuzzed = server.connect(domid, {
            data: (bytes) => parser.push(bytes),
            closed: () => {
              isOver = true
            },
          })
          const packer = new XsPacker()
          for (const [i, [type, tx, bytes]] of messages.entries()) {
            packer.append(type, i, tx, '', bytes)
          }
          fuzzed.write(packer.take())
          fuzzed.finish()
          expect(await witness.list('/')).toContain('tool|')
          await until(() => isOver)
          const isReleased =
            server.domains.get(5) === undefined ||
            messages.some(([type]) => type === XS.INTRODUCE || type === XS.RELEASE)
          if (!isReleased || domid === 0) {
            expect(answers).toEqual(Array.from({ length: asked }, (_, i) => i))
          }
          expect(
            [...errnos].filter((errno) => !XSD_ERRORS.some((known) => `${known}\0` === errno)),
          ).toEqual([])
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe('garbage', () => {
  const header = (len: number): Uint8Array => {
    const bytes = new Uint8Array(xsdSockmsg.size)
    xsdSockmsg.encode({ type: XS.READ, req_id: 99, tx_id: 0, len }, bytes)
    return bytes
  }

  test('an illegal length ends the connection, after the pending replies', async () => {
    const before = dom5.read('x')
    dom5.connection.write(header(4097))
    expect(await before).toBe('ENOENT')
    await until(() => dom5.ended !== undefined)
    expect(dom5.ended?.message).toBe('xenstore header field "len" expected 0..4096, got 4097')
    expect(log).toEqual([
      'connection of domain 5 ended: xenstore header field "len" expected 0..4096, got 4097',
    ])
    expect(await dom0.read('/tool')).toBe('')
    expect(xenstored.openResources()).toEqual(['xenstore connection of domain 0'])
  })

  test('bytes after it are ignored', async () => {
    const packer = new XsPacker()
    packer.append(XS.MKDIR, 1, 0, 'x\0')
    dom5.connection.write(Buffer.concat([header(0xffff_ffff), packer.take()]))
    void dom5.mkdir('y')
    await until(() => dom5.ended !== undefined)
    void dom5.mkdir('z')
    expect(await dom0.list('/local/domain/5')).toBe('')
  })

  test('the domain itself may connect again', async () => {
    dom5.connection.write(header(5000))
    await until(() => dom5.ended !== undefined)
    expect(await dom0.ask(XS.IS_DOMAIN_INTRODUCED, '5|')).toBe('T|')
    expect(await new RawXenstore(xenstored, 5).write('x', '1')).toBe('OK|')
  })

  test('for any bytes after valid ones, the connection ends with a reason or continues, and others are unaffected', async () => {
    const chunks = fc.array(
      fc.oneof(
        fc.uint8Array({ maxLength: 100 }),
        fc.constantFrom(4096, 4097, 0, 0xffff_ffff).map(header),
      ),
      { maxLength: 8 },
    )
    await fc.assert(
      fc.asyncProperty(
        fc.nat(20),
        chunks,
        fc.nat(40),
        fc.constantFrom(0, 5),
        async (sensible, garbage, cut, domid) => {
          const lines: string[] = []
          const { xenstored: server, dom0: witness } = await startXenstored({
            log: (line) => lines.push(line),
          })
          await witness.watch('/witness', 't')
          await witness.events()
          const answers = new Set<number>()
          const parser = new XsParser((type, reqId) => {
            if (type !== XS.WATCH_EVENT) answers.add(reqId)
          })
          let reason: Error | undefined
          const connection = server.connect(domid, {
            data: (bytes) => parser.push(bytes),
            closed: (error) => {
              reason = error
            },
          })
          const packer = new XsPacker()
          for (let id = 0; id < sensible; id++) packer.append(XS.WATCH, id, 0, `/w\0${id}\0`)
          const bytes = Buffer.concat([packer.take(), ...garbage])
          connection.write(bytes.subarray(0, cut))
          connection.write(bytes.subarray(cut))
          connection.finish()
          expect(await witness.write('/witness', '1')).toBe('OK|')
          await until(() => reason !== undefined)
          expect(reason?.message).toMatch(
            /^(xenstore header field "len" expected 0\.\.4096, got \d+|the xenstore client of domain \d has finished)$/,
          )
          expect(lines.length).toBe(reason?.message.includes('"len"') ? 1 : 0)
          for (let id = 0; id < sensible; id++) expect(answers.has(id)).toBe(true)
          expect(await witness.events()).toEqual(['/witness t'])
          expect(server.openResources()).toEqual([
            'xenstore connection of domain 0',
            'xenstore connection of domain 0: watch "/witness" with token "t"',
            'xenstore connection of domain 5',
          ])
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe('a client that does not take its messages', () => {
  test('is not answered from within its write', async () => {
    const answered = dom0.read('/tool')
    expect(dom0.arrivals.at(-1)).not.toBe(XS.READ)
    await answered
    expect(dom0.arrivals.at(-1)).toBe(XS.READ)
  })

  test('gets each change once when it continues', async () => {
    await dom0.watch('/a', 't')
    await dom0.events()
    dom0.connection.pause()
    const other = new RawXenstore(xenstored, 0)
    for (let i = 0; i < 1000; i++) await other.write(`/a/${i % 3}`, String(i))
    dom0.connection.resume()
    expect(await dom0.events()).toEqual(['/a/0 t', '/a/1 t', '/a/2 t'])
  })

  test('may send any number of requests at once', async () => {
    await dom0.write('/big', 'v'.repeat(4000))
    const answers = await Promise.all(Array.from({ length: 20_000 }, () => dom0.read('/big')))
    expect(answers.reduce((sum, { length }) => sum + length, 0)).toBe(80_000_000)
  })

  test('has a bounded number of waiting replies, and is disconnected at 16 MiB of waiting requests', async () => {
    await dom0.write('/big', 'v'.repeat(4000))
    const lazy = new RawXenstore(xenstored, 0)
    lazy.connection.pause()
    const packer = new XsPacker()
    for (let id = 0; id < 1000; id++) packer.append(XS.READ, id, 0, '/big\0')
    const message = packer.take()
    lazy.connection.write(message)
    await until(() => xenstored.dom0.used('memory') > 256 * 1024)
    for (let i = 0; i < 10; i++) await dom0.events()
    expect(xenstored.dom0.used('memory')).toBeLessThan(300 * 1024)
    let sent = 1
    for (; xenstored.openResources().length === 3 && sent < 1000; sent++) {
      lazy.connection.write(message)
    }
    expect((sent * message.length) / 2 ** 20).toBeCloseTo(16, 0)
    lazy.connection.resume()
    await until(() => lazy.ended !== undefined)
    expect(lazy.ended?.message).toBe(
      'the xenstore client of domain 0 sends requests without taking the replies',
    )
    expect(lazy.arrivals.length * 4016).toBeLessThan(2 * 2 ** 20)
  })

  test('is asked to wait from 64 KiB of requests on, and notified when there is room', async () => {
    let ready = 0
    const eager = xenstored.connect(0, {
      data: () => {},
      ready: () => {
        ready++
      },
      closed: () => {},
    })
    const packer = new XsPacker()
    for (let id = 0; id < 2000; id++) packer.append(XS.READ, id, 0, '/tool/xenstored\0')
    const bytes = packer.take()
    expect(bytes.length).toBeLessThan(65_536)
    expect([eager.write(bytes), eager.write(bytes), ready]).toEqual([true, false, 0])
    await until(() => ready === 1)
    await dom0.events()
    expect([eager.write(bytes.subarray(0, 32)), ready]).toEqual([true, 1])
  })

  test('is logged in printable text', async () => {
    xenstored.isTracing = true
    await dom5.write('x', '\x9b2J\x7f')
    expect(log).toEqual(['domain 5: WRITE "x\\u0000Â\\u009b2J\\u007f"'])
  })

  test('may be reset by the receiver of the log', async () => {
    const logged = await startXenstored({
      log() {
        logged.xenstored.isTracing = false
        logged.xenstored.introduceDomain(5)
      },
    })
    logged.xenstored.isTracing = true
    void logged.dom5.read('x')
    void logged.dom5.read('y')
    await logged.dom0.events()
    expect(await logged.dom5.write('z', '1')).toBe('OK|')
  })

  test('is disconnected at 16 MiB of waiting events', async () => {
    const lazy = new RawXenstore(xenstored, 0)
    await lazy.watch('/', 't')
    lazy.connection.pause()
    const name = 'n'.repeat(2000)
    let written = 0
    for (; xenstored.openResources().length > 2 && written < 20_000; written += 100) {
      await Promise.all(
        Array.from({ length: 100 }, (_, i) => dom0.write(`/${name}${written + i}`, '')),
      )
    }
    expect(Math.abs((written * 2024) / 2 ** 20 - 16)).toBeLessThan(1)
    await until(() => lazy.ended !== undefined)
    expect(lazy.ended?.message).toMatch(/domain 0 left \d+ bytes of replies and events unread/)
  })

  test('may send requests within a delivery, whose bytes stay unchanged', async () => {
    const packer = new XsPacker()
    const changed: boolean[] = []
    const ask = (): void => {
      packer.append(XS.GET_DOMAIN_PATH, changed.length, 0, `${changed.length}\0`)
      eager.write(packer.take())
    }
    const eager = xenstored.connect(0, {
      data(bytes) {
        const told = bytes.slice()
        if (changed.length < 50) ask()
        changed.push(!Buffer.from(told).equals(bytes))
      },
      closed: () => {},
    })
    ask()
    for (let i = 0; i < 60; i++) await dom0.events()
    expect(changed).toEqual(Array.from({ length: 51 }, () => false))
  })
})
