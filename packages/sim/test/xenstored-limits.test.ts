/** What one client can do to the others and to the server's memory: nothing. */
import { XS, XSD_ERRORS, XsPacker, xsdSockmsg } from '@xenkit/wire'
import * as fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import { Xenstored } from '../src/xenstored/index.ts'
import { RawXenstore } from './raw-xenstore.ts'

let xenstored: Xenstored
let dom0: RawXenstore
let dom5: RawXenstore

beforeEach(async () => {
  xenstored = new Xenstored()
  dom0 = new RawXenstore(xenstored, 0)
  xenstored.introduceDomain(5)
  dom5 = new RawXenstore(xenstored, 5)
  await dom0.mkdir('/local/domain/5')
  await dom0.setPerms('/local/domain/5', 'n5')
})

describe('quotas of a guest', () => {
  test('nodes: 1000, its home included', async () => {
    const answers = await Promise.all(Array.from({ length: 1200 }, (_, i) => dom5.mkdir(`d${i % 20}/${i}`)))
    expect(answers.filter((answer) => answer === 'OK|').length).toBe(1000 - 1 - 20)
    expect(new Set(answers)).toEqual(new Set(['OK|', 'ENOSPC']))
    expect(await Promise.all([dom5.rm('d0'), dom5.mkdir('again'), dom0.mkdir('/other')])).toEqual(['OK|', 'OK|', 'OK|'])
  })

  test('nodes, within a transaction and at its end', async () => {
    await Promise.all(Array.from({ length: 990 - 1 - 20 }, (_, i) => dom5.mkdir(`d${i % 20}/${i}`)))
    const full = await dom5.begin()
    const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => dom5.mkdir(`t${i}`, full)))
    expect(answers.filter((answer) => answer === 'ENOSPC').length).toBe(20)
    const late = await dom5.begin()
    await dom5.mkdir('d1/late1', late)
    await Promise.all(Array.from({ length: 10 }, (_, i) => dom5.mkdir(`d0/u${i}`)))
    expect(await dom5.end(late)).toBe('ENOSPC')
    expect(await dom5.end(full, 'F')).toBe('OK|')
  })

  test('size of a node: below 2048 bytes with its header, permissions and names', async () => {
    expect(await Promise.all([dom5.write('x', 'v'.repeat(2048 - 32 - 1)), dom5.write('x', 'v'.repeat(2048 - 32)), dom0.write('/x', 'v'.repeat(4000))])).toEqual(['OK|', 'ENOSPC', 'OK|'])
    expect((await dom5.read('x')).length).toBe(2015)
    const names = await Promise.all(Array.from({ length: 30 }, (_, i) => dom5.mkdir(`d/${'n'.repeat(97)}${i}`)))
    expect(names.filter((answer) => answer === 'OK|').length).toBe(20)
  })

  test('watches: 128', async () => {
    const answers = await Promise.all(Array.from({ length: 130 }, (_, i) => dom5.watch('x', String(i))))
    expect(answers.slice(126)).toEqual(['OK|', 'OK|', 'E2BIG', 'E2BIG'])
    expect(await Promise.all([dom5.unwatch('x', '0'), dom5.watch('x', 'more')])).toEqual(['OK|', 'OK|'])
  })

  test('transactions: 10 at a time', async () => {
    const ids = await Promise.all(Array.from({ length: 10 }, () => dom5.begin()))
    expect(await dom5.ask(XS.TRANSACTION_START, '|')).toBe('ENOSPC')
    await dom5.end(ids[0] ?? 0, 'F')
    expect(await dom5.begin()).toBeGreaterThan(0)
  })

  test('nodes of a transaction: 1024, and one that went beyond can not be committed', async () => {
    const tx = await dom5.begin()
    const answers = await Promise.all(Array.from({ length: 1100 }, (_, i) => dom5.read(`n${i}`, tx)))
    expect(answers.filter((answer) => answer === 'ENOENT').length).toBe(1023) // and its home, which they were looked for in
    expect(answers.at(-1)).toBe('ENOSPC')
    expect(await dom5.end(tx)).toBe('ENOMEM')
  })
})

describe('messages', () => {
  test.each([
    [XS.READ, ''], [XS.READ, '/a'], [XS.READ, '/a|x'], [XS.READ, '/a|x|'], [XS.WRITE, '/a'], [XS.WRITE, ''], [XS.SET_PERMS, '/tool|'], [XS.SET_PERMS, '/tool'], [XS.WATCH, '/a|'], [XS.WATCH, '/a|t|1|x|'],
    [XS.UNWATCH, '/a|'], [XS.TRANSACTION_END, 'T'], [XS.GET_DOMAIN_PATH, '|'], [XS.INTRODUCE, '7|'],
  ])('%d "%s" is EINVAL', async (type, payload) => {
    expect(await dom0.ask(type, payload)).toBe('EINVAL')
  })

  test.each([XS.CONTROL, XS.WATCH_EVENT, XS.ERROR, 20, 27, 0xffff_ffff])('type %d is ENOSYS', async (type) => {
    expect(await dom0.ask(type, '/|')).toBe('ENOSYS')
  })

  test('a length that no message has ends that connection, after what it was owed', async () => {
    const before = dom5.read('x')
    const header = new Uint8Array(xsdSockmsg.size)
    xsdSockmsg.encode({ type: XS.READ, req_id: 99, tx_id: 0, len: 5000 }, header)
    dom5.connection.write(header)
    expect(await before).toBe('ENOENT')
    await dom0.events()
    expect(dom5.ended?.message).toContain('"len" expected 0..4096, got 5000')
    expect(await dom0.read('/tool')).toBe('')
    expect(xenstored.openResources()).toEqual(['xenstore connection of domain 0'])
  })

  test('any message gets one answer, whatever it says, and harms no other client', async () => {
    const payload = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc.array(fc.constantFrom('/', 'a', 'local/domain/5', '@releaseDomain', '\0', 'n5', 'r0', 'T', '0', '5', '99999999999'), { maxLength: 8 }).map((parts) => Buffer.from(parts.join(''))),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(30), fc.nat(3), payload), { maxLength: 30 }), fc.constantFrom(0, 5), async (messages, domid) => {
        const server = new Xenstored()
        server.introduceDomain(5)
        const witness = new RawXenstore(server, 0)
        const errnos = new Set<string>()
        let answers = 0
        const fuzzed = server.connect(domid, {
          data(bytes) {
            for (let at = 0; at < bytes.length; ) {
              const { type, len } = xsdSockmsg.decode(bytes, at)
              if (type !== XS.WATCH_EVENT) answers++
              if (type === XS.ERROR) errnos.add(Buffer.from(bytes.subarray(at + 16, at + 15 + len)).toString())
              at += 16 + len
            }
          },
          closed: () => {},
        })
        const packer = new XsPacker()
        for (const [i, [type, tx, bytes]] of messages.entries()) packer.append(type, i, tx, '', bytes)
        fuzzed.write(packer.take())
        expect(await witness.read('/tool/xenstored')).toBe('')
        expect(answers).toBe(messages.length)
        expect([...errnos].filter((errno) => !XSD_ERRORS.some((known) => known === errno))).toEqual([])
      }),
      { numRuns: 300 },
    )
  })
})

describe('a client that does not take what it is sent', () => {
  test('is not answered from within its write', async () => {
    const answered = dom0.read('/tool')
    expect(dom0.arrivals.at(-1)).not.toBe(XS.READ)
    await answered
    expect(dom0.arrivals.at(-1)).toBe(XS.READ)
  })

  test('hears, once it goes on, of each change once', async () => {
    await dom0.watch('/a', 't')
    await dom0.events()
    dom0.connection.pause()
    const other = new RawXenstore(xenstored, 0)
    for (let i = 0; i < 1000; i++) await other.write(`/a/${i % 3}`, String(i))
    dom0.connection.resume()
    expect(await dom0.events()).toEqual(['/a/0 t', '/a/1 t', '/a/2 t'])
  })

  test('may ask for any amount in one go', async () => {
    await dom0.write('/big', 'v'.repeat(4000))
    const answers = await Promise.all(Array.from({ length: 20_000 }, () => dom0.read('/big')))
    expect(answers.reduce((sum, { length }) => sum + length, 0)).toBe(80_000_000)
  })

  test('is not asked to take more replies than fit, and loses its connection once 16 MiB of requests wait', async () => {
    await dom0.write('/big', 'v'.repeat(4000))
    const lazy = new RawXenstore(xenstored, 0)
    lazy.connection.pause()
    const packer = new XsPacker()
    for (let id = 0; id < 1000; id++) packer.append(XS.READ, id, 0, '/big\0')
    const message = packer.take()
    let sent = 0
    for (; xenstored.openResources().length === 3 && sent < 1000; sent++) lazy.connection.write(message)
    expect((sent * message.length) / 2 ** 20).toBeCloseTo(16, 0)
    lazy.connection.resume()
    await dom0.events()
    expect(lazy.ended?.message).toBe('the xenstore client of domain 0 sends more than it lets xenstored answer')
    expect(lazy.arrivals.length * 4016).toBeLessThan(2 * 2 ** 20)
  })

  test('loses its connection once 16 MiB of events wait', async () => {
    const lazy = new RawXenstore(xenstored, 0)
    await lazy.watch('/', 't')
    lazy.connection.pause()
    const name = 'n'.repeat(3000)
    let written = 0
    for (; xenstored.openResources().length > 2 && written < 10_000; written++) {
      await dom0.write(`/${name}${written}`, '')
      await dom0.rm(`/${name}${written}`)
    }
    expect((written * 3024) / 2 ** 20).toBeCloseTo(16, 0)
    await dom0.events()
    expect(lazy.ended?.message).toMatch(/domain 0 left \d+ bytes of replies and events unread/)
  })

  test('may ask while it is being told: what it was lent stays as it is', async () => {
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
