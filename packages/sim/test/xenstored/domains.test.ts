/** Domains in xenstored: INTRODUCE and RELEASE, SET_TARGET, and features. */
import { DOMID_ANY, DOMID_SELF, XENSTORE_SERVER_FEATURE, XS } from '@xenkit/wire'
import { beforeEach, describe, expect, test } from 'vitest'
import { Xenstored } from '../../src/xenstored/index.ts'
import { RawXenstore, startXenstored, until } from '../support/raw-xenstore.ts'

let xenstored: Xenstored
let dom0: RawXenstore
let dom5: RawXenstore

beforeEach(async () => {
  ;({ xenstored, dom0, dom5 } = await startXenstored())
})

const introduce = (domid: number): Promise<string> => dom0.ask(XS.INTRODUCE, `${domid}|0|1|`)

test('requests that only domain 0 may make', async () => {
  const payloads = [
    [XS.INTRODUCE, '7|0|1|'],
    [XS.RELEASE, '5|'],
    [XS.IS_DOMAIN_INTRODUCED, '5|'],
    [XS.RESUME, '5|'],
    [XS.SET_TARGET, '5|0|'],
    [XS.CONTROL, 'help|'],
    [XS.SET_FEATURE, '5|0|'],
    [XS.GET_FEATURE, '5|'],
    [XS.GET_QUOTA, ''],
    [XS.SET_QUOTA, 'nodes|1|'],
  ] as const
  expect(
    new Set(await Promise.all(payloads.map(([type, payload]) => dom5.ask(type, payload)))),
  ).toEqual(new Set(['EACCES']))
})

test('RESTRICT is not supported', async () => {
  expect(await Promise.all([dom0.ask(XS.RESTRICT, '5|'), dom5.ask(XS.RESTRICT, '5|')])).toEqual([
    'ENOSYS',
    'ENOSYS',
  ])
})

describe('domids are read as atoi does', () => {
  test.each([
    ['5|', '5'],
    ['05|', '5'],
    [' \t+7|', '7'],
    ['5x|', '5'],
    ['x|', '0'],
    ['|', '0'],
    ['-1|', '4294967295'],
    ['70000|', '70000'],
    ['4294967301|', '5'],
    ['99999999999999999999|', '4294967295'],
    ['-99999999999999999999|', '0'],
  ])('GET_DOMAIN_PATH "%s"', async (payload, domid) => {
    expect(await dom5.ask(XS.GET_DOMAIN_PATH, payload)).toBe(`/local/domain/${domid}|`)
  })

  test.each(['', '5', '5|5|', '5|x'])('GET_DOMAIN_PATH "%s" is EINVAL', async (payload) => {
    expect(await dom0.ask(XS.GET_DOMAIN_PATH, payload)).toBe('EINVAL')
  })

  test.each([
    ['0|', 'T|'],
    ['5|', 'T|'],
    ['5x|', 'T|'],
    ['6|', 'F|'],
    [`${DOMID_SELF}|`, 'T|'],
    ['-1|', 'F|'],
    ['x|', 'T|'],
    ['5', 'EINVAL'],
    ['', 'EINVAL'],
  ])('IS_DOMAIN_INTRODUCED "%s"', async (payload, answer) => {
    expect(await dom0.ask(XS.IS_DOMAIN_INTRODUCED, payload)).toBe(answer)
  })
})

describe('INTRODUCE', () => {
  test.each([
    ['7|0|1|', 'OK|'],
    ['7|x|1x|', 'OK|'],
    ['7|0|1|more|', 'OK|'],
    ['7|0|1|rest', 'OK|'],
    ['7|0|-1|', 'OK|'],
    ['0|0|1|', 'OK|'],
    ['7|', 'EINVAL'],
    ['7|0|', 'EINVAL'],
    ['7|0|1', 'EINVAL'],
    ['7|0|0|', 'EINVAL'],
    ['7|0|x|', 'EINVAL'],
    ['32752|0|1|', 'EINVAL'],
    ['-1|0|1|', 'EINVAL'],
  ])('"%s"', async (payload, answer) => {
    expect(await dom0.ask(XS.INTRODUCE, payload)).toBe(answer)
  })

  test('lets a domain connect', async () => {
    expect(() => new RawXenstore(xenstored, 7)).toThrow("domain 7 isn't introduced to xenstored")
    await introduce(7)
    expect(await new RawXenstore(xenstored, 7).read('/tool')).toBe('EACCES')
  })

  test('of a domain that does not exist is refused', async () => {
    const strict = await startXenstored({ exists: (domid) => domid === 5 })
    expect(
      await Promise.all([
        strict.dom0.ask(XS.INTRODUCE, '7|0|1|'),
        strict.dom0.ask(XS.IS_DOMAIN_INTRODUCED, '7|'),
      ]),
    ).toEqual(['EINVAL', 'F|'])
    expect(() => strict.xenstored.introduceDomain(7)).toThrow('there is no domain 7')
  })

  test('of an introduced domain resets its connection', async () => {
    await dom5.watch('x', 't')
    const tx = await dom5.begin()
    dom5.connection.pause()
    void dom5.read('x') // the reply is queued but not delivered
    dom5.connection.write(Uint8Array.of(XS.READ, 0, 0)) // a header's start, never completed
    await dom0.events()
    void dom5.write('x', 'lost')
    xenstored.introduceDomain(5)
    await dom0.events()
    dom5.arrivals.length = 0
    expect(await Promise.all([dom5.unwatch('x', 't'), dom5.end(tx)])).toEqual(['ENOENT', 'ENOENT'])
    expect(dom5.arrivals).toEqual([XS.ERROR, XS.ERROR])
    expect(await dom0.read('/local/domain/5/x')).toBe('ENOENT')
    expect(xenstored.openResources()).toEqual([
      'xenstore connection of domain 0',
      'xenstore connection of domain 5',
    ])
  })

  test('of domain 0 does nothing, because its connections are sockets', async () => {
    await dom0.watch('/a', 't')
    expect(await introduce(0)).toBe('OK|')
    expect(await dom0.unwatch('/a', 't')).toBe('OK|')
  })
})

describe('RELEASE and RESUME', () => {
  test.each([
    ['0|', 'EINVAL'],
    ['|', 'EINVAL'],
    ['', 'EINVAL'],
    ['5', 'EINVAL'],
    ['5|5|', 'EINVAL'],
    ['9|', 'ENOENT'],
    ['-1|', 'ENOENT'],
    ['5|', 'OK|'],
  ])('"%s"', async (payload, answer) => {
    expect(await dom0.ask(XS.RESUME, payload)).toBe(answer)
    expect(await dom0.ask(XS.RELEASE, payload)).toBe(answer)
    expect(await dom0.ask(XS.IS_DOMAIN_INTRODUCED, '5|')).toBe(answer === 'OK|' ? 'F|' : 'T|')
  })

  test('a released domain leaves no rights to a later one', async () => {
    await dom5.write('mine', '1')
    await dom0.write('/other', '1')
    await dom0.setPerms('/other', 'n0|r5|r6')
    await dom0.setPerms('@releaseDomain', 'n0|r5')
    await introduce(6)
    await dom0.ask(XS.SET_TARGET, '6|5|')
    await dom0.ask(XS.SET_QUOTA, '5|nodes|1|')
    await dom0.watch('/local/domain/5', 't')
    await dom0.events()
    xenstored.releaseDomain(5)
    expect(await dom0.events()).toEqual(['/local/domain/5 t'])
    expect(dom5.ended?.message).toBe('domain 5 was released from xenstored')
    expect(await dom0.read('/local/domain/5')).toBe('ENOENT')
    expect(() => new RawXenstore(xenstored, 5)).toThrow("isn't introduced")
    xenstored.introduceDomain(5)
    await dom0.mkdir('/local/domain/5')
    await dom0.setPerms('/local/domain/5', 'n0|b5')
    const later = new RawXenstore(xenstored, 5)
    expect(
      await Promise.all([
        later.write('mine', '2'),
        later.write('more', ''),
        later.read('/other'),
        new RawXenstore(xenstored, 6).read('/local/domain/5/mine'),
      ]),
    ).toEqual(['OK|', 'OK|', 'EACCES', 'EACCES'])
    await later.watch('@releaseDomain', 't')
    await later.events()
    await introduce(7)
    await dom0.ask(XS.RELEASE, '7|')
    expect(await later.events()).toEqual([])
  })

  test('earlier requests are answered', async () => {
    const answers = Promise.all([dom5.write('a', '1'), dom0.ask(XS.RELEASE, '5|')])
    expect(await answers).toEqual(['OK|', 'OK|'])
    await until(() => dom5.ended !== undefined)
  })
})

describe('special watches', () => {
  test('fire at introduction and release; with a depth they name the domain', async () => {
    for (const watch of [
      '@introduceDomain|in|',
      '@introduceDomain|which-in|1|',
      '@releaseDomain|out|',
      '@releaseDomain|none|0|',
      '@releaseDomain|which-out|1|',
      '@releaseDomain/7|out7|',
      '@releaseDomain/8|out8|',
    ]) {
      expect(await dom0.ask(XS.WATCH, watch)).toBe('OK|')
    }
    await dom0.events()
    await introduce(7)
    expect(await dom0.events()).toEqual(['@introduceDomain in', '@introduceDomain/7 which-in'])
    await introduce(7)
    expect(await dom0.events()).toEqual([])
    await dom0.ask(XS.RELEASE, '7|')
    expect(await dom0.events()).toEqual([
      '@releaseDomain out',
      '@releaseDomain/7 which-out',
      '@releaseDomain/7 out7',
    ])
  })

  test('fire for each domain, never merged', async () => {
    await dom0.watch('@releaseDomain', 't')
    for (const domid of [7, 8, 9]) await introduce(domid)
    await dom0.events()
    for (const domid of [7, 8, 9]) xenstored.releaseDomain(domid)
    expect(await dom0.events()).toEqual([
      '@releaseDomain t',
      '@releaseDomain t',
      '@releaseDomain t',
    ])
  })

  test('fire only for domains that may read them', async () => {
    await dom5.watch('@releaseDomain', 't')
    await dom5.events()
    await introduce(7)
    await dom0.ask(XS.RELEASE, '7|')
    expect(await dom5.events()).toEqual([])
    expect(await dom5.setPerms('@releaseDomain', 'n5')).toBe('EACCES')
    await dom0.setPerms('@releaseDomain', 'n0|r5')
    await introduce(7)
    await dom0.ask(XS.RELEASE, '7|')
    expect(await dom5.events()).toEqual(['@releaseDomain t'])
  })
})

describe('SET_TARGET', () => {
  test.each([
    ['6|5|', 'OK|'],
    ['6|5|more|', 'OK|'],
    ['6|0|', 'OK|'],
    ['6|', 'EINVAL'],
    ['6|5', 'EINVAL'],
    ['9|5|', 'ENOENT'],
    ['6|9|', 'ENOENT'],
  ])('"%s"', async (payload, answer) => {
    await introduce(6)
    expect(await dom0.ask(XS.SET_TARGET, payload)).toBe(answer)
  })

  test("gives the target's rights, including that of changing permissions, and its events", async () => {
    await introduce(6)
    const dom6 = new RawXenstore(xenstored, 6)
    await dom5.write('a', '1')
    await dom0.write('/for5', '1')
    await dom0.setPerms('/for5', 'n0|r5')
    expect(await Promise.all([dom6.read('/local/domain/5/a'), dom6.read('/for5')])).toEqual([
      'EACCES',
      'EACCES',
    ])
    await dom0.ask(XS.SET_TARGET, '6|5|')
    await dom6.watch('/local/domain/5/a', 't')
    expect(
      await Promise.all([
        dom6.read('/local/domain/5/a'),
        dom6.read('/for5'),
        dom6.write('/for5', ''),
        dom6.setPerms('/local/domain/5/a', 'n6'),
      ]),
    ).toEqual(['1', '1', 'EACCES', 'EPERM'])
    expect(await dom6.setPerms('/local/domain/5/a', 'n5|w7')).toBe('OK|')
    await dom6.events()
    await dom5.write('a', '2')
    expect(await dom6.events()).toEqual(['/local/domain/5/a t'])
    expect(await dom6.write('/local/domain/5/by6', '')).toBe('OK|')
    expect(await dom0.getPerms('/local/domain/5/by6')).toBe('n6|')
    expect(await dom5.read('by6')).toBe('EACCES')
  })
})

describe('features', () => {
  const { RECONNECTION, ERROR, WATCHDEPTH, DOMID_ANY: ANY } = XENSTORE_SERVER_FEATURE
  const ALL = RECONNECTION | ERROR | WATCHDEPTH | ANY

  test.each([
    ['', `${ALL}|`],
    ['5|', `${ALL}|`],
    ['9|', `${ALL}|`],
    ['5|5|', 'EINVAL'],
    ['x|', 'EINVAL'],
    ['70000|', 'EINVAL'],
    ['40000|', 'ENOENT'],
  ])('GET_FEATURE "%s"', async (payload, answer) => {
    expect(await dom0.ask(XS.GET_FEATURE, payload)).toBe(answer)
  })

  test.each([
    ['7|4|', 'OK|'],
    ['7|0|', 'OK|'],
    ['7|16|', 'EINVAL'],
    ['7|-1|', 'EINVAL'],
    ['5|4|', 'EBUSY'],
    ['0|4|', 'EBUSY'],
    ['7|', 'EINVAL'],
    ['7|4|4|', 'EINVAL'],
    ['x|4|', 'EINVAL'],
    ['40000|4|', 'ENOENT'],
  ])('SET_FEATURE "%s"', async (payload, answer) => {
    expect(await dom0.ask(XS.SET_FEATURE, payload)).toBe(answer)
  })

  test('a domain without a feature can not use it', async () => {
    await dom0.ask(XS.SET_FEATURE, '7|0|')
    await introduce(7)
    const dom7 = new RawXenstore(xenstored, 7)
    await dom0.mkdir('/local/domain/7')
    await dom0.setPerms('/local/domain/7', 'n7')
    expect(
      await Promise.all([
        dom7.ask(XS.GET_FEATURE, ''),
        dom7.ask(XS.WATCH, 'x|t|1|'),
        dom7.watch('x', 't'),
        dom5.ask(XS.WATCH, 'x|t|1|'),
      ]),
    ).toEqual(['0|', 'EINVAL', 'OK|', 'OK|'])
    await dom7.write('x', '1')
    expect(
      await Promise.all([
        dom7.setPerms('x', `n7|r${DOMID_ANY}`),
        dom7.setPerms('x', `n${DOMID_ANY}`),
      ]),
    ).toEqual(['OK|', 'ENOENT'])
    expect(await dom5.read('/local/domain/7/x')).toBe('EACCES')
  })
})

test('DOMID_ANY in permissions means any domain', async () => {
  await introduce(6)
  const dom6 = new RawXenstore(xenstored, 6)
  await dom5.write('x', '1')
  expect(await dom5.setPerms('x', `n5|n6|r${DOMID_ANY}`)).toBe('OK|')
  await introduce(7)
  expect(
    await Promise.all([
      dom6.read('/local/domain/5/x'),
      new RawXenstore(xenstored, 7).read('/local/domain/5/x'),
      new RawXenstore(xenstored, 7).write('/local/domain/5/x', '2'),
    ]),
  ).toEqual(['EACCES', '1', 'EACCES'])
  expect(await dom5.getPerms('x')).toBe(`n5|n6|r${DOMID_ANY}|`)
  await dom0.setPerms('/local/domain/5/x', `n${DOMID_ANY}`)
  expect(await dom6.write('/local/domain/5/x', '6')).toBe('OK|')
})

test('permissions can not name a missing domain', async () => {
  const strict = await startXenstored({ exists: (domid) => domid < 6 })
  await strict.dom0.write('/a', '')
  expect(
    await Promise.all([strict.dom0.setPerms('/a', 'n9'), strict.dom0.setPerms('/a', 'n0|r9')]),
  ).toEqual(['ENOENT', 'OK|'])
})

test('domids of the API', () => {
  for (const domid of [-1, 0x7ff0, 1.5]) {
    expect(() => xenstored.introduceDomain(domid)).toThrow('"domid" expected an integer 0..32751')
    expect(() => xenstored.connect(domid, { data: () => {}, closed: () => {} })).toThrow(
      '"domid" expected an integer 0..32751',
    )
    expect(() => xenstored.releaseDomain(domid)).toThrow('"domid" expected an integer 1..32751')
  }
  expect(() => xenstored.releaseDomain(0)).toThrow('"domid" expected an integer 1..32751')
  expect(() => new Xenstored().releaseDomain(9)).not.toThrow()
})
