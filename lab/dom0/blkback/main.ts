/**
 * Runs `openVbd` in dom0 against two backends in dom0, with the same checks for both. `kernel` is
 * Linux's blkback on a loop device, and `xenkit` is `serveVbd`. The scenario `blkback` reads the
 * output.
 */
import { execFile } from 'node:child_process'
import { readFile, readdir, stat, truncate, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { strictEqual } from 'node:assert'
import { openXen } from '@xenkit/xen'
import { type XenstoreClient, openXenstore } from '@xenkit/xenstore-client'
import type { Hypervisor } from '@xenkit/hypervisor'
import { type VbdEvent, openVbd, openFileStore, plugVbd, serveVbd, unplugVbd } from 'xenkit'
import { check, soon } from '../tap.ts'
import { checkDisk } from './suite.ts'

const SIZE = 4 << 20
const run = async (command: string, ...args: string[]): Promise<string> =>
  (await promisify(execFile)(command, args)).stdout.trim()

const addressOf = (vdev: string) => ({ frontendDomid: 0, backendDomid: 0, vdev })

/**
 * Attaches an image to a loop device and gives the device to blkback, as Xen's script `block` does.
 */
async function plugLoop(
  xs: XenstoreClient,
  o: {
    readonly vdev: string
    readonly devid: number
    readonly image: string
    readonly readOnly: boolean
  },
): Promise<string> {
  await writeFile(o.image, '')
  await truncate(o.image, SIZE)
  const device = await run('losetup', '-f')
  await run('losetup', device, o.image)
  const { rdev } = await stat(device)
  const hex = (n: number): string => n.toString(16)
  await plugVbd(xs, { ...addressOf(o.vdev), readOnly: o.readOnly, params: device })
  await xs.write(
    `/local/domain/0/backend/vbd/0/${o.devid}/physical-device`,
    `${hex((rdev >> 8) & 0xfff)}:${hex(rdev & 0xff)}`,
  )
  return device
}

async function statistic(vdev: number, name: string): Promise<number> {
  const devices = '/sys/bus/xen-backend/devices'
  const device = (await readdir(devices)).find((found) => found === `vbd-0-${vdev}`)
  return Number(await readFile(`${devices}/${device}/statistics/${name}`, 'utf8'))
}

async function againstBlkback(hv: Hypervisor, xs: XenstoreClient): Promise<void> {
  const [image, vdev, devid] = ['blkback.img', 'xvdk', 51872]
  const device = await plugLoop(xs, { vdev, devid, image, readOnly: false })
  await checkDisk(hv, {
    name: 'blkback',
    vdev,
    // After a flush, blkback's writes are in the page cache of the image file.
    image: () => readFile(image),
    async resize(sectors) {
      await truncate(image, sectors * 512)
      await run('losetup', '-c', device)
    },
    reads: () => statistic(devid, 'rd_req'),
  })
  await check('blkback: both sides announce persistent grants', async () => {
    await using disk = await openVbd(hv, { vdev })
    await disk.read(0, [new Uint8Array(1 << 20)])
    strictEqual(await xs.read(`/local/domain/0/backend/vbd/0/${devid}/feature-persistent`), '1')
    strictEqual(await xs.read(`/local/domain/0/device/vbd/${devid}/feature-persistent`), '1')
  })
  await unplugVbd(xs, addressOf(vdev))

  await check('blkback: a read-only disk refuses writes', async () => {
    await plugLoop(xs, { vdev: 'xvdm', devid: 51904, image: 'read-only.img', readOnly: true })
    {
      await using disk = await soon('the attach', openVbd(hv, { vdev: 'xvdm' }))
      strictEqual(disk.readOnly, true)
      const refused = await disk.write(0, [new Uint8Array(512)]).then(
        () => 'written',
        () => 'refused',
      )
      strictEqual(refused, 'refused')
    }
    await unplugVbd(xs, addressOf('xvdm'))
  })
}

async function againstXenkit(hv: Hypervisor, xs: XenstoreClient): Promise<void> {
  for (const dataPath of ['copy', 'persistent'] as const) {
    const [image, vdev] = [`${dataPath}.img`, 'xvdn']
    await writeFile(image, '')
    await truncate(image, SIZE)
    const store = await openFileStore(image)
    const abort = new AbortController()
    let last: VbdEvent | undefined
    const serving = serveVbd(hv, {
      store,
      dataPath,
      reservation: 'xenkit',
      signal: abort.signal,
      onEvent: (event) => (last = event),
    })
    await plugVbd(xs, { ...addressOf(vdev), readOnly: false, reservation: 'xenkit' })
    await checkDisk(hv, {
      name: `xenkit, ${dataPath}`,
      vdev,
      image: () => readFile(image),
      async resize(sectors) {
        await store.resize?.(sectors)
      },
      reads: async () => last?.disk.stats.reads ?? 0,
    })
    await unplugVbd(xs, addressOf(vdev))
    abort.abort()
    await serving
    await store.close()
  }
}

const hv = await openXen()
const xs = await openXenstore(hv.xenstore)
await (process.argv[2] === 'kernel' ? againstBlkback(hv, xs) : againstXenkit(hv, xs))
xs.close()
await hv.close()
console.log('# end')
