import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NotAvailableError } from '@xenkit/hypervisor'
import { loadNative } from '@xenkit/native'
import { describe, expect, test } from 'vitest'
import { DEVICES, fixFor, openDevice } from '../src/devices.ts'
import { openXen, probeXen } from '../src/index.ts'
import { checkKernelBackend } from '../src/probe-xen.ts'

describe.skipIf(existsSync('/dev/xen/gntdev'))('without Xen', () => {
  test('opening says what is missing and what to do, and leaves nothing open', async () => {
    const opening = openXen()
    await expect(opening).rejects.toThrow(NotAvailableError)
    await expect(opening).rejects.toThrow(
      'cannot open "/dev/xen/gntdev" (ENOENT): in a domain of Xen, run: modprobe xen-gntdev; without Xen, use the simulated hypervisor',
    )
    expect(loadNative().counters()).toMatchObject({ fds: 0, mappings: 0, ports: 0, polls: 0 })
  })

  test('the probe says what is missing and what to do', async () => {
    const { usable, checks } = await probeXen()
    expect(usable).toBe(false)
    expect(checks.map((check) => check.name)).toEqual([
      'hypervisor',
      'native',
      'disks',
      '/dev/xen/gntdev',
      '/dev/xen/evtchn',
      '/dev/xen/gntalloc',
      '/dev/xen/xenbus',
      '/dev/net/tun',
      'xenstored',
    ])
    expect(checks.filter((check) => !check.ok && check.fix === undefined)).toEqual([])
    expect(checks.find((check) => check.name === 'native')).toMatchObject({
      ok: true,
      required: true,
    })
    expect(checks.find((check) => check.name === 'disks')).toMatchObject({
      required: false,
      detail: expect.stringMatching(/by (io_uring|threads: )/),
    })
  })
})

test.each([
  ['vbd', 'xen-blkback', 'disk'],
  ['vif', 'xen-netback', 'network card'],
] as const)('the probe reports a loaded kernel backend of a %s', async (type, module, devices) => {
  const drivers = mkdtempSync(join(tmpdir(), 'xenkit-drivers-'))
  try {
    const absent = await checkKernelBackend(type, drivers)
    expect(absent).toMatchObject({ name: module, ok: true })
    mkdirSync(join(drivers, type))
    expect(await checkKernelBackend(type, drivers)).toMatchObject({
      ok: false,
      required: false,
      detail: expect.stringContaining(`every ${devices} `),
      fix: expect.stringContaining(`modprobe -r ${module}`),
    })
  } finally {
    rmSync(drivers, { recursive: true })
  }
})

test.each([0, -1, 2 ** 20 + 1])('an arena of %i pages is refused', async (arenaPages) => {
  await expect(openXen({ arenaPages })).rejects.toThrow(RangeError)
})

describe('a device that can not be opened', () => {
  const failing = (code: string) => () =>
    openDevice(DEVICES.evtchn, (path) => {
      throw Object.assign(new Error(`open "${path}": ${code}`), { code })
    })

  test.each([
    ['ENODEV', 'modprobe xen-evtchn'],
    ['EACCES', 'as root'],
    ['EMFILE', 'limit of open files'],
  ])('for %s says what to do', (code, fix) => {
    expect(failing(code)).toThrow(NotAvailableError)
    expect(failing(code)).toThrow(fix)
    expect(failing(code)).toThrow(
      expect.objectContaining({ details: { path: '/dev/xen/evtchn', errno: code } }),
    )
  })

  test("keeps an error that isn't an errno", () => {
    expect(failing('ERR_RUNTIME')).toThrow(expect.objectContaining({ code: 'ERR_RUNTIME' }))
  })

  test('has other advice if no module provides it', () => {
    expect(fixFor(DEVICES.xenbus, 'ENOENT')).not.toContain('modprobe')
  })
})
