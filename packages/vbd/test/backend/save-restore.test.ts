/**
 * A guest is saved and restored: the new domain's frontend publishes new rings, and the old one
 * never closed its own.
 */
import { expect, test } from 'vitest'
import { openVbd, plugVbd, unplugVbd } from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { rig } from '../support/rig.ts'

test('saved and restored ten times: the next domain gets the disk and its data', async () => {
  const store = memoryStore(64)
  await using r = await rig({ store: () => store })
  let guest = r.guest
  for (let life = 0; life < 10; life++) {
    // As libxl does for `xl restore`: the disk waits in InitWait before the guest runs.
    const address = { frontendDomid: guest.domid, backendDomid: 0, vdev: 'xvda' }
    await plugVbd(r.xs, { ...address, readOnly: false })
    await r.xs.wait(async (view) =>
      (await view.readOptional(`/local/domain/0/backend/vbd/${guest.domid}/51712/state`)) === '2'
        ? true
        : undefined,
    )
    const disk = await openVbd(guest, { vdev: 'xvda' })
    const sector = new Uint8Array(512)
    await disk.read(0, [sector])
    expect(sector[0]).toBe(life)
    await disk.write(0, [sector.fill(life + 1)])
    // `xl save` ends by destroying the domain while its disk is connected.
    r.machine.destroyDomain(guest.domid)
    await unplugVbd(r.xs, address)
    await r.event(
      ({ kind, disk: { frontendDomid } }) => kind === 'removed' && frontendDomid === guest.domid,
    )
    guest = r.machine.createDomain()
  }
  expect(r.events.filter(({ kind }) => kind === 'failed')).toEqual([])
  expect(await r.xs.exists('/local/domain/0/backend')).toBe(false)
})
