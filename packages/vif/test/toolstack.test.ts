/** A toolstack's part: cards that `plugVif` or libxl plugs, read back and listed. */
import { formatMac } from '@xenkit/frames'
import { backendPath, frontendPath } from '@xenkit/xenbus'
import { type SimDomain, createMachine } from '@xenkit/sim'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type VifAddress, listVifs, plugVif, unplugVif } from '../src/index.ts'
import { readRequestedCard } from '../src/requested-card.ts'

interface Rig extends AsyncDisposable {
  readonly xs: XenstoreClient
  readonly guest: SimDomain
  readonly address: VifAddress
  /** Returns the nodes below the backend's or the frontend's directory. */
  nodes(side: 'back' | 'front'): Promise<Record<string, string>>
  /** Writes the nodes of a card into the backend's directory, as libxl does. */
  request(nodes: Readonly<Record<string, string>>): Promise<void>
  read(): ReturnType<typeof readRequestedCard>
}

async function rig(): Promise<Rig> {
  const machine = createMachine()
  const dom0 = machine.createDomain()
  const guest = machine.createDomain()
  const xs = await openXenstore(dom0.xenstore)
  const address = { frontendDomid: guest.domid, backendDomid: 0, devid: 0 }
  const device = { type: 'vif', ...address }
  const path = { back: backendPath(device), front: frontendPath(device) }
  return {
    xs,
    guest,
    address,
    async nodes(side) {
      const names = await xs.list(path[side])
      const values = names.map(async (name) => [name, await xs.read(`${path[side]}/${name}`)])
      return Object.fromEntries(await Promise.all(values))
    },
    async request(nodes) {
      for (const [name, value] of Object.entries(nodes)) {
        await xs.write(`${path.back}/${name}`, value)
      }
    },
    read: () => readRequestedCard(xs, device),
    async [Symbol.asyncDispose]() {
      xs.close()
      await machine.assertQuiescent()
    },
  }
}

/** The nodes that libxl 4.17 writes for `vif=['mac=00:16:3e:01:02:03,bridge=br0']`. */
const LIBXL = {
  handle: '0',
  mac: '00:16:3e:01:02:03',
  bridge: 'br0',
  script: '/etc/xen/scripts/vif-bridge',
  type: 'vif',
  'hotplug-status': '',
}

describe('plugVif', () => {
  test('writes what libxl writes, on both sides', async () => {
    await using r = await rig()
    await plugVif(r.xs, {
      ...r.address,
      mac: Uint8Array.of(0, 0x16, 0x3e, 1, 2, 3),
      bridge: 'br0',
      rate: { bytes: 500_000, periodUs: 50_000 },
      ips: ['10.0.0.2', '2001:db8::/64'],
      mtu: 9000,
    })
    expect(await r.nodes('back')).toEqual({
      frontend: `/local/domain/${r.guest.domid}/device/vif/0`,
      'frontend-id': String(r.guest.domid),
      online: '1',
      state: '1',
      handle: '0',
      mac: '00:16:3e:01:02:03',
      bridge: 'br0',
      ip: '10.0.0.2 2001:db8::/64',
      rate: '500000,50000',
      mtu: '9000',
      type: 'vif',
      script: '/bin/true',
    })
    expect(await r.nodes('front')).toEqual({
      backend: `/local/domain/0/backend/vif/${r.guest.domid}/0`,
      'backend-id': '0',
      state: '1',
      handle: '0',
      mac: '00:16:3e:01:02:03',
      mtu: '9000',
      trusted: '1',
    })
  })

  test('without an address it chooses one of the range of Xen, another each time', async () => {
    await using r = await rig()
    for (const devid of [0, 1, 2, 3]) await plugVif(r.xs, { ...r.address, devid })
    const listed = await listVifs(r.xs, 0)
    expect(listed.map(({ devid }) => devid)).toEqual([0, 1, 2, 3])
    const addresses = listed.map(({ mac }) => (mac ? formatMac(mac) : ''))
    for (const mac of addresses) expect(mac).toMatch(/^00:16:3e:[0-7][\da-f](:[\da-f]{2}){2}$/)
    expect(new Set(addresses).size).toBe(4)
  })

  test('refuses what is out of range, and writes nothing', async () => {
    await using r = await rig()
    await expect(plugVif(r.xs, { ...r.address, mtu: 67 })).rejects.toThrow(RangeError)
    await expect(plugVif(r.xs, { ...r.address, name: 'sixteen-letters-' })).rejects.toThrow(
      RangeError,
    )
    expect(await listVifs(r.xs, 0)).toEqual([])
  })

  test('unplugVif leaves nothing of a card that nobody serves', async () => {
    await using r = await rig()
    await plugVif(r.xs, r.address)
    await unplugVif(r.xs, r.address)
    expect(await r.xs.exists('/local/domain/0/backend/vif')).toBe(false)
    expect(await r.xs.exists(`/local/domain/${r.guest.domid}/device/vif/0`)).toBe(false)
  })
})

describe('readRequestedCard', () => {
  test("libxl's nodes", async () => {
    await using r = await rig()
    await r.request(LIBXL)
    expect(await r.read()).toEqual({
      frontendDomid: r.guest.domid,
      devid: 0,
      name: `vif${r.guest.domid}.0`,
      mac: Uint8Array.of(0, 0x16, 0x3e, 1, 2, 3),
      bridge: 'br0',
      script: 'prepares',
      ips: [],
      rate: undefined,
      mtu: 1500,
    })
  })

  test.each([
    ['/etc/xen/scripts/vif-bridge', undefined],
    ['/bin/true', 'web'],
    ['/etc/xen/scripts/xenkit-hotplug', 'web'],
  ])('with the script %s the interface is created as %s', async (script, name) => {
    await using r = await rig()
    await r.request({ ...LIBXL, script, vifname: 'web' })
    expect((await r.read()).name).toBe(name ?? `vif${r.guest.domid}.0`)
  })

  test('addresses may be separated by any white space', async () => {
    await using r = await rig()
    await r.request({ ...LIBXL, ip: ' 10.0.0.2  10.1.0.0/16\t2001:db8::1 ' })
    expect((await r.read()).ips).toEqual(['10.0.0.2', '10.1.0.0/16', '2001:db8::1'])
  })

  test.each([
    ['500000,50000', { bytes: 500_000, periodUs: 50_000 }],
    ['1,4294967295', { bytes: 1, periodUs: 4_294_967_295 }],
    ['500000,0', undefined],
  ])('the rate %s', async (rate, expected) => {
    await using r = await rig()
    await r.request({ ...LIBXL, rate })
    expect((await r.read()).rate).toEqual(expected)
  })

  test.each([
    ['rate', '500000'],
    ['rate', ','],
    ['rate', '0,50000'],
    ['rate', '500000,'],
    ['rate', '500000,50000,1'],
    ['rate', '-1,50000'],
    ['rate', '1e6,50000'],
    ['rate', '500000,4294967296'],
    ['mac', '00:16:3e:01:02'],
    ['mac', '00:16:3e:01:02:03:04'],
    ['mac', '00-16-3e-01-02-03'],
    ['mac', '01:16:3e:01:02:03'],
    ['mac', 'ff:ff:ff:ff:ff:ff'],
    ['mac', ''],
    ['mtu', '67'],
    ['mtu', '65522'],
    ['mtu', '1500 '],
    ['vifname', 'sixteen-letters-'],
    ['ip', '10.0.0.1 '.repeat(114)],
  ])('%s "%s" is refused by name', async (node, value) => {
    await using r = await rig()
    await r.request({ ...LIBXL, [node]: value })
    const refused = { node: expect.stringContaining(`/${node}`), value }
    await expect(r.read()).rejects.toMatchObject({ code: 'ERR_XEN_NEGOTIATION', details: refused })
  })

  test('reads what plugVif was given', async () => {
    await using r = await rig()
    const mac = fc
      .uint8Array({ minLength: 6, maxLength: 6 })
      .map((bytes) => Uint8Array.from(bytes, (byte, i) => (i === 0 ? byte & 0xfe : byte)))
    const card = fc.record({
      mac,
      mtu: fc.integer({ min: 68, max: 65_521 }),
      ips: fc.array(fc.oneof(fc.ipV4(), fc.ipV6()), { maxLength: 4 }),
      rate: fc.record({
        bytes: fc.maxSafeNat().map((n) => n || 1),
        periodUs: fc.integer({ min: 1 }),
      }),
      bridge: fc.stringMatching(/^[a-z]{1,15}$/),
      name: fc.stringMatching(/^[a-z]{1,15}$/),
    })
    await fc.assert(
      fc.asyncProperty(card, async (requested) => {
        await plugVif(r.xs, { ...r.address, ...requested })
        expect(await r.read()).toEqual({
          frontendDomid: r.guest.domid,
          devid: 0,
          script: 'none',
          ...requested,
        })
        await unplugVif(r.xs, r.address)
      }),
      { numRuns: 50 },
    )
  })
})

describe('listVifs', () => {
  test('in order, with both states; what is no card is left out', async () => {
    await using r = await rig()
    for (const devid of [10, 9]) await plugVif(r.xs, { ...r.address, devid })
    await r.request({ mac: 'nonsense' })
    expect(await listVifs(r.xs, 0)).toMatchObject([
      { devid: 9, backendState: 'Initialising', frontendState: 'Initialising', claim: undefined },
      { devid: 10, backendState: 'Initialising', frontendState: 'Initialising' },
    ])
    expect(await listVifs(r.xs, 5)).toEqual([])
  })
})
