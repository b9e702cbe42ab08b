/**
 * How hints of other backends about a disk's units are read. No value refuses the disk, here or
 * when it is served again.
 */
import { createMachine } from '@xenkit/sim'
import { XenbusState } from '@xenkit/wire'
import { plugDevice } from '@xenkit/xenbus'
import { openXenstore } from '@xenkit/xenstore-client'
import { expect, test } from 'vitest'
import { limitsOf } from '../../src/backend/limits.ts'
import { type Disk, openVbd } from '../../src/index.ts'
import { RawFrontend } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'

/** Opens a disk of a backend that publishes only these nodes and serves nothing. */
async function attached(
  nodes: Record<string, string>,
  look: (disk: Disk) => Promise<void> | void,
): Promise<void> {
  await using machine = createMachine()
  const [dom0, guest] = [machine.createDomain(), machine.createDomain()]
  using xs = await openXenstore(dom0.xenstore)
  const device = {
    type: 'vbd',
    frontendDomid: guest.domid,
    backendDomid: 0,
    devid: 51_712,
  } as const
  const said = {
    sectors: '4096',
    info: '0',
    'sector-size': '512',
    'feature-discard': '1',
    ...nodes,
  }
  await plugDevice(xs, {
    ...device,
    frontend: { 'virtual-device': '51712' },
    backend: { mode: 'w', ...said },
  })
  const backend = `/local/domain/0/backend/vbd/${guest.domid}/51712`
  const serve = async (): Promise<void> => {
    const answers = [
      [XenbusState.Initialising, XenbusState.InitWait],
      [XenbusState.Initialised, XenbusState.Connected],
      [XenbusState.Closing, XenbusState.Closed],
    ] as const
    for (const [seen, answer] of answers) {
      const node = `/local/domain/${guest.domid}/device/vbd/51712/state`
      await xs.wait(async (view) => ((await view.read(node)) === String(seen) ? true : undefined))
      await xs.write(`${backend}/state`, String(answer))
    }
  }
  // If the disk is refused, `serve` ends with the connection.
  const serving = serve().catch(() => {})
  const disk = await openVbd(guest, { vdev: 'xvda' })
  await look(disk)
  await disk.close()
  await serving
}

const plain = { readOnly: false, cdrom: false, removable: false, discard: true }
const limits = { granularity: 512, alignment: 0, secure: false }

test.each([
  ['nothing', {}, limits],
  [
    '0, as blkback of a loop device',
    { 'discard-granularity': '0', 'discard-alignment': '0' },
    limits,
  ],
  [
    'granules',
    { 'discard-granularity': '65536', 'discard-alignment': '4096' },
    { ...limits, granularity: 65_536, alignment: 4096 },
  ],
  [
    'the largest granules',
    { 'discard-granularity': String(2 ** 31) },
    { ...limits, granularity: 2 ** 31 },
  ],
  ['a secure discard', { 'discard-secure': '1' }, { ...limits, secure: true }],
  ['granules above 2^31', { 'discard-granularity': String(2 ** 31 + 512) }, undefined],
  ['granules above 2^32', { 'discard-granularity': String(2 ** 32) }, undefined],
  ['granules of a sector and a half', { 'discard-granularity': '768' }, undefined],
  ['granules that are no number', { 'discard-granularity': '4k' }, undefined],
  [
    'an alignment of -1, as blkback writes it',
    { 'discard-alignment': String(2 ** 32 - 1) },
    undefined,
  ],
  ['an alignment of -1, in other words', { 'discard-alignment': '-1' }, undefined],
  [
    'an alignment within a sector',
    { 'discard-granularity': '4096', 'discard-alignment': '100' },
    undefined,
  ],
] as const)('a backend that says %s of discards', async (_, nodes, expected) => {
  await attached(nodes, async (disk) => {
    expect(disk.discard !== undefined).toBe(expected !== undefined)
    expect(disk.discardLimits).toEqual(expected ?? limits)
    expect(limitsOf(disk, plain)).toMatchObject({ discard: expected !== undefined })
  })
})

test.each([
  ['0', 512],
  ['4096', 4096],
  ['1536', 512],
  ['256', 512],
  [String(2 ** 31), 512],
  ['many', 512],
] as const)('physical sectors of %s are of %i bytes', async (said, expected) => {
  await attached({ 'physical-sector-size': said }, (disk) => {
    expect(disk.physicalSectorSize).toBe(expected)
    limitsOf(disk, plain)
  })
})

test.each([512, 1024, 2048, 4096])('sectors of %i bytes', async (size) => {
  await attached({ 'sector-size': String(size) }, async (disk) => {
    expect(disk).toMatchObject({ sectorSize: size, physicalSectorSize: size })
    expect(disk.discardLimits.granularity).toBe(size)
    if (size > 512) await expect(disk.read(1, [new Uint8Array(size)])).rejects.toThrow(RangeError)
    // Served again: the guest sees the same.
    await using above = await rig({ store: disk })
    await above.plug()
    await using front = await RawFrontend.open(above.guest)
    await above.event(({ kind }) => kind === 'connected')
    const node = `${front.device.backendPath}/sector-size`
    expect(await above.xs.read(node)).toBe(String(size))
  })
})

test.each(['0', '256', '768', '3072', '8192'])(
  'a sector size of %s bytes is refused',
  async (size) => {
    await expect(attached({ 'sector-size': size }, () => {})).rejects.toMatchObject({
      code: 'ERR_XEN_NEGOTIATION',
      message: expect.stringContaining('sector-size'),
    })
  },
)
