/** Every feature of the block backend, with Linux's own blkfront as its witness: what was done, and what the guest says. */
import { deepStrictEqual, match, ok, strictEqual } from 'node:assert'
import type { Dom0 } from '../src/dom0/dom0.ts'
import { holdings } from '../src/dom0/holdings.ts'
import type { RemoteProcess } from '../src/dom0/remote-process.ts'
import type { Guest } from '../src/guest/guest.ts'
import type { Lab } from '../src/scenario.ts'

export const title = 'a row for each feature of the block backend, witnessed by the blkfront of a guest'
export const programs = { stores: 'lab/dom0/vbd/main.ts', xenkit: 'packages/xenkit/src/cli/main.ts' }

/** The disks that the guest has all the time, by how lab/dom0/vbd/main.ts is to serve each. The others come for a row and go. */
const disks = { xvda: 'copy:file', xvdb: 'persistent:sparse', xvdc: 'map:memory' }

const CYCLES = 8

const line = (vdev: string, target: string, access = 'w'): string => `vdev=${vdev},access=${access},script=/bin/true,target=${target}`

/** What a row's work finds, for the table. */
type Row = (feature: string, work: () => Promise<string>) => Promise<void>

interface Rig {
  readonly dom0: Dom0
  readonly guest: Guest
  readonly server: RemoteProcess
  /** Has xl plug a disk, and unplug it after `work`. */
  withDisk(vdev: string, target: string, work: (device: string) => Promise<string>, access?: 'r'): Promise<string>
  /** What the server has counted. */
  stats(): Promise<Record<string, Record<string, number | string>>>
}

export async function run(lab: Lab): Promise<void> {
  const dom0 = await lab.boot()
  await dom0.run(
    'head -c 16M /dev/urandom > file.img; head -c 8388608 /dev/urandom > base.img; head -c 16M /dev/zero > 4096.img; cp 4096.img encrypted.img; qemu-img create -q -f qcow2 disk.qcow2 16M',
  )
  const nbd = dom0.spawn('exec qemu-nbd --persistent --discard=unmap --socket=/tmp/nbd.sock --format=qcow2 disk.qcow2')
  await dom0.run('until [ -S nbd.sock ]; do usleep 10000; done')
  const server = dom0.spawn('exec stores')
  const [, pid = ''] = await server.output(/^pid (\d+)$/m)
  const before = await holdings(dom0, pid)
  const guest = await lab.check('a guest boots with three disks, each on another data path', () =>
    dom0.createGuest({
      name: 'guest',
      disks: Object.entries(disks).map(([vdev, target]) => line(vdev, target)),
      // Where grants are persistent blkfront has a page for each segment of each request that fits on the ring: 32 MiB of these.
      kernelArguments: 'xen_blkfront.max_ring_page_order=2 xen_blkfront.max_indirect_segments=64',
    }),
  )
  for (const vdev of Object.keys(disks)) await guest.disk(vdev)

  let asked = 0
  const rig: Rig = {
    dom0,
    guest,
    server,
    async withDisk(vdev, target, work, access) {
      await dom0.run(`xl block-attach ${guest.domid} '${line(vdev, target, access)}'`)
      const said = await work(await guest.disk(vdev))
      await dom0.run(`xl block-detach ${guest.domid} ${vdev}`)
      return said
    },
    async stats() {
      server.signal('SIGUSR2')
      const [, json = ''] = await server.output(new RegExp(`^stats ${++asked} (.*)$`, 'm'))
      return JSON.parse(json)
    },
  }
  // A row that fails doesn't end the table: what others show is independent of it.
  const row: Row = async (feature, work) => {
    try {
      const said = await work()
      lab.report(`${feature.padEnd(26)} ${said}`, true)
    } catch (error) {
      lab.report(`${feature.padEnd(26)} ${error instanceof Error ? error.message : String(error)}`, false)
    }
  }
  await requests(row, rig)
  await dataPaths(row, rig)
  await geometry(row, rig)
  await storesOf(row, rig, nbd)
  await toolstack(row, rig)
  await life(row, rig, { pid, before })
  await queues(row, rig)
  await lab.check('the backend ends in good order', async () => strictEqual((await server.stop('SIGTERM')).status, 0))
}

const digest = (file: string): string => `sha256sum < ${file}`
/** Makes the guest's kernel forget what it has read. */
const forget = 'echo 3 > /proc/sys/vm/drop_caches'
const queue = (guest: Guest, vdev: string, name: string): Promise<string> => guest.run(`cat /sys/block/${vdev}/queue/${name}`)
/** What blkfront said of a disk when it connected. */
const dmesg = async (guest: Guest, vdev: string): Promise<string> => (await guest.run(`dmesg | grep 'blkfront: ${vdev}:' | tail -n 1`)).replace(/^.*blkfront: /, '')

async function requests(row: Row, { dom0, guest, stats }: Rig): Promise<void> {
  await row('read, write, flush', async () => {
    const said = await dmesg(guest, 'xvda')
    match(said, /flush diskcache: enabled/)
    strictEqual(await guest.run(digest('/dev/xvda')), await dom0.run(digest('file.img')), 'what the guest reads')
    const written = await guest.run(`head -c 1048576 /dev/urandom > /tmp/data; dd if=/tmp/data of=/dev/xvda bs=64k seek=20 conv=fsync 2>/dev/null; ${digest('/tmp/data')}`)
    strictEqual(await dom0.run('dd if=file.img bs=64k skip=20 count=16 2>/dev/null | sha256sum'), written, 'what the image holds')
    const { xvda } = await stats()
    ok(Number(xvda?.['flushes']) > 0, 'a flush was counted')
    return `16 MiB read, 1 MiB written and flushed, sha256 agrees; dmesg: ${said}`
  })
  await row('indirect', async () => {
    const [segments, kib] = [await queue(guest, 'xvda', 'max_segments'), await queue(guest, 'xvda', 'max_hw_sectors_kb')]
    const before = (await stats())['xvda']
    await guest.run('dd if=/dev/xvda of=/dev/null bs=1M count=8 iflag=direct 2>/dev/null')
    const after = (await stats())['xvda']
    const delta = (name: string): number => Number(after?.[name]) - Number(before?.[name])
    ok(Number(kib) > 44 && delta('indirect') > 0, 'more than 11 segments')
    const mean = delta('bytesRead') / delta('reads')
    ok(mean > 128 * 1024, `requests of ${mean} bytes`)
    return `max_segments ${segments}, max_hw_sectors_kb ${kib}; 8 MiB in ${delta('reads')} requests, ${delta('indirect')} of them indirect`
  })
  await row('discard', async () => {
    const [granularity, most] = [await queue(guest, 'xvda', 'discard_granularity'), await queue(guest, 'xvda', 'discard_max_bytes')]
    const blocks = (): Promise<string> => dom0.run('stat -c %b file.img')
    const full = await blocks()
    await guest.run(`blkdiscard -o 4194304 -l 4194304 /dev/xvda; ${forget}; dd if=/dev/xvda bs=1M skip=4 count=4 2>/dev/null | cmp -n 4194304 - /dev/zero`)
    strictEqual(Number(full) - Number(await blocks()), 8192, 'blocks that the image gave back')
    return `discard_granularity ${granularity}, discard_max_bytes ${most}; blkdiscard of 4 MiB: reads as zeroes, the image is 4 MiB smaller`
  })
  await row('discard by a file system', async () => {
    const before = (await stats())['xvda']?.['bytesDiscarded']
    const trimmed = await guest.run('mkfs.ext4 -q /dev/xvda && mount /dev/xvda /mnt && cp -a /bin /mnt && sync && rm -r /mnt/bin && sync && fstrim -v /mnt; umount /mnt')
    await dom0.run('e2fsck -fn file.img')
    const bytes = Number((await stats())['xvda']?.['bytesDiscarded']) - Number(before)
    ok(bytes > 8 << 20, `${bytes} bytes discarded`)
    return `mkfs.ext4, fstrim: "${trimmed.split('\n').at(-1)}"; e2fsck is content`
  })
  await row('secure discard', async () => {
    await guest.run('dd if=/bin/busybox of=/dev/xvdb bs=64k count=8 conv=fsync 2>/dev/null')
    await guest.run(`blkdiscard -s -o 65536 -l 131072 /dev/xvdb; ${forget}; dd if=/dev/xvdb bs=64k skip=1 count=2 2>/dev/null | cmp -n 131072 - /dev/zero`)
    const { status, stdout } = await guest.attempt('blkdiscard -s -o 65536 -l 131072 /dev/xvda')
    ok(status !== 0, 'where the store has none it is refused')
    return `blkdiscard -s: done by the sparse store; of the file, which has none: ${stdout.trim()}`
  })
}

async function dataPaths(row: Row, { dom0, guest, stats }: Rig): Promise<void> {
  const node = (name: string): Promise<string> => dom0.run(`xenstore-read /local/domain/${guest.domid}/device/vbd/51712/${name}`)
  await row('ring of 4 pages', async () => {
    const order = await guest.run('cat /sys/module/xen_blkfront/parameters/max_ring_page_order')
    deepStrictEqual([order, await node('ring-page-order')], ['2', '2'])
    await dom0.run(`xenstore-exists /local/domain/${guest.domid}/device/vbd/51712/ring-ref3`)
    const result = JSON.parse(await guest.run('io-bench /dev/xvda random-read 4096 128 1'))
    ok(result.requests > 0)
    return `ring-page-order 2, ring-ref3; ${result.requests} reads of 4 KiB at depth 256`
  })
  await row('persistent grants', async () => {
    const [off, on] = [await dmesg(guest, 'xvda'), await dmesg(guest, 'xvdb')]
    match(off, /persistent grants: disabled/)
    match(on, /persistent grants: enabled/)
    const written = await guest.run(`head -c 8388608 /dev/urandom > /tmp/data; dd if=/tmp/data of=/dev/xvdb bs=1M seek=8 conv=fsync 2>/dev/null; ${digest('/tmp/data')}; rm /tmp/data`)
    strictEqual(await guest.run(`${forget}; dd if=/dev/xvdb bs=1M skip=8 count=8 2>/dev/null | sha256sum`), written)
    const { xvdb } = await stats()
    strictEqual(xvdb?.['dataPath'], 'persistent')
    ok(Number(xvdb['persistentGrants']) > 0)
    return `8 MiB written and read; ${xvdb['persistentGrants']} pages stay mapped; dmesg: ${on}`
  })
  await row('mapped grants', async () => {
    const written = await guest.run(`head -c 8388608 /dev/urandom > /tmp/data; dd if=/tmp/data of=/dev/xvdc bs=1M conv=fsync 2>/dev/null; ${digest('/tmp/data')}; rm /tmp/data`)
    strictEqual(await guest.run(`${forget}; dd if=/dev/xvdc bs=1M count=8 2>/dev/null | sha256sum`), written)
    const { xvdc } = await stats()
    deepStrictEqual([xvdc?.['dataPath'], xvdc?.['persistentGrants']], ['map', 0])
    return '8 MiB written and read, sha256 agrees'
  })
}

async function geometry(row: Row, { dom0, guest, withDisk }: Rig): Promise<void> {
  await row('read-only', () =>
    withDisk('xvdd', 'copy:base', async (device) => {
      strictEqual(await guest.run('cat /sys/block/xvdd/ro'), '1')
      const { status, stdout } = await guest.attempt(`dd if=/dev/zero of=${device} bs=4k count=1`)
      ok(status !== 0, 'a write is refused')
      strictEqual(await guest.run(digest(device)), await dom0.run(digest('base.img')))
      return `ro 1; ${stdout.split('\n')[0] ?? ''}`
    }, 'r'),
  )
  await row('sectors of 4096 bytes', () =>
    withDisk('xvde', 'copy:4096', async (device) => {
      deepStrictEqual([await queue(guest, 'xvde', 'logical_block_size'), await queue(guest, 'xvde', 'physical_block_size'), await guest.run('cat /sys/block/xvde/size')], ['4096', '4096', '32768'])
      const { status } = await guest.attempt(`io-bench ${device} random-read 512 1 1`)
      ok(status !== 0, 'half a sector is refused')
      await guest.run(`mkfs.ext4 -q ${device} && mount ${device} /mnt && cp /bin/busybox /mnt && sync && umount /mnt`)
      await dom0.run('e2fsck -fn 4096.img && debugfs -R "dump /busybox busybox" 4096.img')
      strictEqual(await dom0.run(digest('busybox')), await guest.run(digest('/bin/busybox')))
      return 'logical_block_size 4096, size 32768 of 512; a file of the guest is whole in the image, e2fsck is content'
    }),
  )
  await row('resize', async () => {
    const said: string[] = []
    for (const [size, sectors] of [['24M', 49152], ['8M', 16384]] as const) {
      await dom0.run(`xenkit disk resize ${guest.domid} xvda ${size}`)
      await guest.run(`until [ $(cat /sys/block/xvda/size) = ${sectors} ]; do usleep 10000; done`, 20)
      strictEqual(await dom0.run('stat -c %s file.img'), String(sectors * 512))
      await guest.run(`dd if=/bin/busybox of=/dev/xvda bs=512 seek=${sectors - 8} count=8 conv=fsync 2>/dev/null`)
      strictEqual(await dom0.run('tail -c 4096 file.img | sha256sum'), await guest.run('head -c 4096 /bin/busybox | sha256sum'))
      said.push(`size ${sectors}`)
    }
    const { status } = await guest.attempt('dd if=/dev/xvda of=/dev/null bs=512 skip=16384 count=1 iflag=direct 2>/dev/null | grep -q .')
    ok(status !== 0, 'nothing is behind the new end')
    return `xenkit disk resize 24M, 8M: ${said.join(', ')}; dmesg: ${(await guest.run("dmesg | grep -i 'capacity' | tail -n 1")).replace(/^.*\] /, '')}`
  })
  await row('CD-ROM', async () => {
    await dom0.run('head -c 1048576 /dev/urandom > first.iso; head -c 3M /dev/urandom > second.iso')
    const drive = dom0.spawn(`exec xenkit disk attach ${guest.domid} xvdk --cdrom`)
    await guest.disk('xvdk')
    const holds = async (iso?: string): Promise<void> => {
      const sectors = iso === undefined ? '0' : await dom0.run(`echo $(($(stat -c %s ${iso}) / 512))`)
      await guest.run(`until [ $(cat /sys/block/xvdk/size) = ${sectors} ]; do usleep 10000; done`, 20)
      if (iso !== undefined) strictEqual(await guest.run(`${forget}; ${digest('/dev/xvdk')}`), await dom0.run(digest(iso)))
    }
    await holds()
    deepStrictEqual(await guest.run('cat /sys/block/xvdk/removable /sys/block/xvdk/ro'), '1\n1')
    for (const iso of ['first.iso', 'second.iso']) {
      await dom0.run(`xenkit disk insert ${guest.domid} xvdk ${iso}`)
      await holds(iso)
    }
    await dom0.run(`xenkit disk eject ${guest.domid} xvdk`)
    await holds()
    await dom0.run(`xenkit disk insert ${guest.domid} xvdk first.iso`)
    await holds('first.iso')
    await drive.stop('SIGINT')
    return 'removable 1, ro 1; empty, inserted, changed, ejected, inserted: size follows, sha256 agrees'
  })
}

async function storesOf(row: Row, { dom0, guest, server, stats, withDisk }: Rig, nbd: RemoteProcess): Promise<void> {
  await row('store: overlay', () =>
    withDisk('xvdf', 'copy:overlay', async (device) => {
      const base = await dom0.run(digest('base.img'))
      strictEqual(await guest.run(digest(device)), base)
      await guest.run(`mkfs.ext4 -q ${device} && mount ${device} /mnt && cp /bin/busybox /mnt && umount /mnt`)
      await guest.run(`${forget}; mount -o ro ${device} /mnt && cmp /bin/busybox /mnt/busybox; umount /mnt`)
      strictEqual(await dom0.run(digest('base.img')), base)
      return 'reads as its base, then has a file system of the guest; the base is as it was'
    }),
  )
  await row('store: encrypted', () =>
    withDisk('xvdg', 'copy:encrypted', async (device) => {
      const written = await guest.run(`dd if=/bin/busybox of=${device} bs=64k count=4 conv=fsync 2>/dev/null; head -c 262144 /bin/busybox | sha256sum`)
      strictEqual(await guest.run(`${forget}; head -c 262144 ${device} | sha256sum`), written)
      // ELF in the clear would begin with its magic, and what isn't random can be compressed.
      const packed = Number(await dom0.run('head -c 262144 encrypted.img | gzip -c | wc -c'))
      ok(packed > 256 * 1024, `the image can be compressed to ${packed} bytes`)
      return '256 KiB of a program read back; in the image they can\'t be compressed'
    }),
  )
  await row('store: throttled', () =>
    withDisk('xvdh', 'copy:throttled', async (device) => {
      await guest.run(`dd if=${device} of=/dev/null bs=1M count=1 iflag=direct 2>/dev/null`)
      const took = await guest.run(`read from _ < /proc/uptime; dd if=${device} of=/dev/null bs=1M count=8 iflag=direct 2>/dev/null; read to _ < /proc/uptime; echo $from $to`)
      const [from = 0, to = 0] = took.split(' ').map(Number)
      const seconds = to - from
      ok(seconds > 1.7, `8 MiB at 4 MiB/s took ${seconds.toFixed(1)} s`)
      return `8 MiB at 4 MiB/s, 1 MiB at once: ${seconds.toFixed(1)} s`
    }),
  )
  await row('store: faulty', () =>
    withDisk('xvdi', 'copy:faulty', async (device) => {
      const { status, stdout } = await guest.attempt(`dd if=${device} of=/dev/null bs=4k skip=512 count=1 iflag=direct`)
      ok(status !== 0, 'the bad sector can be read')
      await guest.run(`dd if=${device} of=/dev/null bs=4k skip=513 count=64 iflag=direct 2>/dev/null`)
      const said = (await guest.run("dmesg | grep 'xvdi, sector' | tail -n 1")).replace(/^.*\] /, '')
      match(said, /sector 4096/)
      ok(Number((await stats())['xvdi']?.['errors']) > 0)
      return `${stdout.split('\n')[0] ?? ''}; dmesg: ${said}`
    }),
  )
  await row('store: NBD', () =>
    withDisk('xvdj', 'copy:nbd', async (device) => {
      await guest.run(`mkfs.ext4 -q ${device} && mount ${device} /mnt && cp -a /bin /mnt && sync`)
      // It forgets what was answered and not flushed, ext4's own checkpoints for example: the store does it again.
      await nbd.stop('SIGKILL')
      await dom0.run('rm -f nbd.sock')
      const copying = guest.run(`${forget}; cmp /bin/busybox /mnt/bin/busybox; cp /bin/busybox /mnt/again && sync && umount /mnt`)
      await server.output(/nbd: (?!connected)/)
      const again = dom0.spawn('exec qemu-nbd --persistent --discard=unmap --socket=/tmp/nbd.sock --format=qcow2 disk.qcow2')
      await copying
      await again.stop('SIGTERM')
      await dom0.run('qemu-img check -q -r leaks disk.qcow2 && qemu-img convert -O raw disk.qcow2 disk.raw && e2fsck -fn disk.raw')
      dom0.spawn('exec qemu-nbd --persistent --discard=unmap --socket=/tmp/nbd.sock --format=qcow2 disk.qcow2')
      strictEqual(await guest.run("dmesg | grep -c 'xvdj, sector' || true"), '0')
      return 'qcow2 by qemu-nbd, killed and started again while the guest works: no error in dmesg, e2fsck is content'
    }),
  )
}

async function toolstack(row: Row, { dom0, guest, server }: Rig): Promise<void> {
  const blockList = async (): Promise<string[]> => (await dom0.run(`xl block-list ${guest.domid}`)).split('\n').slice(1).map((row) => row.trim().split(/\s+/)[0] ?? '')
  await row('xl block-attach, -detach', async () => {
    await dom0.run(`xl block-attach ${guest.domid} '${line('xvdl', 'copy:spare')}'`)
    await guest.run(`dd if=/bin/busybox of=${await guest.disk('xvdl')} bs=64k count=4 conv=fsync 2>/dev/null`)
    ok((await blockList()).includes('51888'))
    await dom0.run(`xl block-detach ${guest.domid} xvdl`)
    await guest.run('until [ ! -e /dev/xvdl ]; do usleep 10000; done', 20)
    strictEqual(await dom0.run(`xenstore-ls -f /local/domain/0/backend/vbd/${guest.domid} | grep -c /51888 || true`), '0')
    return 'script=/bin/true: /dev/xvdl comes and goes, no node is left'
  })
  await row('xenkit disk list, detach', async () => {
    const attached = dom0.spawn(`exec xenkit disk attach ${guest.domid} xvdm /tmp/base.img --read-only`)
    await guest.disk('xvdm')
    const listed = await dom0.run(`xenkit disk list | grep xvdm`)
    match(listed, /Connected +Connected +16384 +r +yes +\/tmp\/base.img/)
    ok((await blockList()).includes('51904'), 'xl block-list has it')
    await dom0.run(`xenkit disk detach ${guest.domid} xvdm`)
    strictEqual((await attached.ended).status, 0)
    await guest.run('until [ ! -e /dev/xvdm ]; do usleep 10000; done', 20)
    return `"${listed.trim().replace(/ +/g, ' ')}", also in xl block-list; detached`
  })
  await row('detach of a disk in use', async () => {
    for (const depth of [16, 128]) {
      const attached = dom0.spawn(`exec xenkit disk attach ${guest.domid} xvdm /tmp/base.img --read-only`)
      await guest.disk('xvdm')
      // With more than fit on the ring some are sent only as the last ones are answered.
      await guest.run(`rm -f /tmp/bench; ( (io-bench /dev/xvdm random-read 4096 ${depth} 60; echo $? > /tmp/bench) > /dev/null 2>&1 &); until grep -q '[1-9]' /sys/block/xvdm/inflight; do usleep 1000; done`)
      await dom0.run(`xenkit disk detach ${guest.domid} xvdm`)
      strictEqual((await attached.ended).status, 0)
      await guest.run('until [ -s /tmp/bench ] && [ ! -e /dev/xvdm ]; do usleep 10000; done', 20)
    }
    return 'with 16 and with 128 reads under way: they end, /dev/xvdm goes, and can come again'
  })
  await row('a block device, libxl\'s script', async () => {
    await dom0.run('modprobe loop; [ -e /dev/loop0 ] || mknod /dev/loop0 b 7 0; losetup /dev/loop0 second.iso')
    const device = dom0.spawn('exec xenkit disk serve --vdev xvdo')
    await device.output(/waiting for a disk/)
    await dom0.run(`xl block-attach ${guest.domid} 'vdev=xvdo,access=w,target=/dev/loop0'`)
    strictEqual(await guest.run(digest(await guest.disk('xvdo'))), await dom0.run(digest('second.iso')))
    await dom0.run(`xl block-detach ${guest.domid} xvdo`)
    await device.output(/removed/)
    await device.stop('SIGINT')
    await dom0.run('losetup -d /dev/loop0')
    return 'target=/dev/loop0 alone; hotplug-status by xen\'s "block"; sha256 agrees'
  })
  await row(`${CYCLES} cycles`, async () => {
    const [, pid = ''] = await server.output(/^pid (\d+)$/m)
    const before = await holdings(dom0, pid)
    for (let i = 0; i < CYCLES; i++) {
      await dom0.run(`xl block-attach ${guest.domid} '${line('xvdl', 'persistent:spare')}'`)
      await guest.run(`dd if=${await guest.disk('xvdl')} of=/dev/null bs=64k count=4 iflag=direct 2>/dev/null`)
      await dom0.run(`xl block-detach ${guest.domid} xvdl`)
    }
    deepStrictEqual(await holdings(dom0, pid), before)
    return 'xl block-attach, read, block-detach: event channels, grant mappings, files and nodes as before'
  })
  await row('forced detach', async () => {
    await dom0.run(`xl block-attach ${guest.domid} '${line('xvdl', 'copy:spare')}'`)
    await guest.disk('xvdl')
    // A guest that stands still answers nothing.
    await dom0.run(`xl pause ${guest.domid}; xenkit disk detach ${guest.domid} xvdl --force; xl unpause ${guest.domid}`)
    await guest.run('dd if=/dev/xvda of=/dev/null bs=1M count=1 iflag=direct 2>/dev/null')
    return 'from a paused guest; its other disks work on'
  })
}

async function life(row: Row, { dom0, guest, server }: Rig, o: { readonly pid: string; readonly before: Awaited<ReturnType<typeof holdings>> }): Promise<void> {
  let alive = guest
  await row('xl save, xl restore', async () => {
    await guest.run('rm -f /tmp/*; head -c 4194304 /dev/urandom > /tmp/data; dd if=/tmp/data of=/dev/xvdb bs=1M conv=fsync 2>/dev/null')
    await guest.run('(while dd if=/dev/xvdb bs=1M count=4 iflag=direct 2>/dev/null | cmp -n 4194304 - /tmp/data; do echo >> /tmp/rounds; done > /tmp/failed 2>&1 &) ; until [ -s /tmp/rounds ]; do usleep 10000; done')
    await dom0.run('xl save guest guest.save', 120)
    alive = await dom0.restoreGuest('guest', 'guest.save')
    await dom0.run('rm guest.save')
    const rounds = Number(await alive.run('wc -l < /tmp/rounds'))
    await alive.run(`until [ $(wc -l < /tmp/rounds) -gt ${rounds + 2} ]; do usleep 10000; done; [ ! -s /tmp/failed ]`)
    for (const vdev of ['xvda', 'xvdc']) await alive.run(`dd if=/dev/${vdev} of=/dev/null bs=1M count=1 iflag=direct 2>/dev/null`)
    return `domain ${guest.domid} goes on as ${alive.domid}: its loop of reads finds what it wrote, before and after; dmesg: ${await dmesg(alive, 'xvdb')}`
  })
  await row('crash with requests in flight', async () => {
    await alive.run(`for vdev in xvdb xvdc xvda; do (io-bench /dev/$vdev random-read 4096 32 60 > /dev/null 2>&1 &) ; done; until grep -q '[1-9]' /sys/block/xvdb/inflight && grep -q '[1-9]' /sys/block/xvda/inflight; do usleep 1000; done`)
    // Its answer will never come.
    alive.attempt('echo c > /proc/sysrq-trigger').catch(() => {})
    for (const vdev of Object.keys(disks)) await server.output(new RegExp(`${vdev} of domain ${alive.domid}: removed`))
    await dom0.when('@releaseDomain', `! xl list ${alive.domid}`)
    deepStrictEqual(await holdings(dom0, o.pid), o.before)
    return 'a panic, on_crash=destroy: all its disks are removed, dom0 holds what it held before there was a guest'
  })
}

/** A guest of its own: two vcpus share a processor of the lab's, where each waits for the other's time slice to end. */
async function queues(row: Row, { dom0, stats }: Rig): Promise<void> {
  await row('several queues', async () => {
    const guest = await dom0.createGuest({ name: 'queues', disks: [line('xvda', disks.xvda)], vcpus: 2, kernelArguments: 'xen_blkfront.max_queues=2 xen_blkfront.max_ring_page_order=1' })
    await guest.disk('xvda')
    const node = (name: string): Promise<string> => dom0.run(`xenstore-read /local/domain/${guest.domid}/device/vbd/51712/${name}`)
    const mq = await guest.run('ls /sys/block/xvda/mq | wc -l')
    deepStrictEqual([mq.trim(), await node('multi-queue-num-queues'), (await stats())['xvda']?.['queues']], ['2', '2', 2])
    ok(Number(await node('queue-1/ring-ref1')) > 0)
    await guest.run('for cpu in 1 2; do taskset $cpu dd if=/dev/xvda of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null; done')
    await guest.destroy()
    return '/sys/block/xvda/mq has 2, multi-queue-num-queues 2, each ring of 2 pages; each vcpu reads through its own'
  })
}
