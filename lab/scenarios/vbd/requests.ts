/** Features about the kinds of request, and about the data paths. */
import { deepStrictEqual, match, ok, strictEqual } from 'node:assert'
import { digest, dmesg, forget, queue, type Rig, type Row } from './rig.ts'

export async function requests(row: Row, { dom0, guest, stats }: Rig): Promise<void> {
  await row('read, write, flush', async () => {
    const said = await dmesg(guest, 'xvda')
    match(said, /flush diskcache: enabled/)
    strictEqual(
      await guest.run(digest('/dev/xvda')),
      await dom0.run(digest('file.img')),
      'what the guest reads',
    )
    const written = await guest.run(
      `head -c 1048576 /dev/urandom > /tmp/data; dd if=/tmp/data of=/dev/xvda bs=64k seek=20 conv=fsync 2>/dev/null; ${digest('/tmp/data')}`,
    )
    strictEqual(
      await dom0.run('dd if=file.img bs=64k skip=20 count=16 2>/dev/null | sha256sum'),
      written,
      'what the image holds',
    )
    const { xvda } = await stats()
    ok(Number(xvda?.['flushes']) > 0, 'a flush was counted')
    return `16 MiB read, 1 MiB written and flushed, sha256 agrees; dmesg: ${said}`
  })
  await row('indirect', async () => {
    const [segments, kib] = [
      await queue(guest, 'xvda', 'max_segments'),
      await queue(guest, 'xvda', 'max_hw_sectors_kb'),
    ]
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
    const [granularity, most] = [
      await queue(guest, 'xvda', 'discard_granularity'),
      await queue(guest, 'xvda', 'discard_max_bytes'),
    ]
    const blocks = (): Promise<string> => dom0.run('stat -c %b file.img')
    const full = await blocks()
    await guest.run(
      `blkdiscard -o 4194304 -l 4194304 /dev/xvda; ${forget}; dd if=/dev/xvda bs=1M skip=4 count=4 2>/dev/null | cmp -n 4194304 - /dev/zero`,
    )
    strictEqual(Number(full) - Number(await blocks()), 8192, 'blocks that the image gave back')
    return `discard_granularity ${granularity}, discard_max_bytes ${most}; blkdiscard of 4 MiB: reads as zeroes, the image is 4 MiB smaller`
  })
  await row('discard by a file system', async () => {
    const before = (await stats())['xvda']?.['bytesDiscarded']
    const trimmed = await guest.run(
      'mkfs.ext4 -q /dev/xvda && mount /dev/xvda /mnt && cp -a /bin /mnt && sync && rm -r /mnt/bin && sync && fstrim -v /mnt; umount /mnt',
    )
    await dom0.run('e2fsck -fn file.img')
    const bytes = Number((await stats())['xvda']?.['bytesDiscarded']) - Number(before)
    ok(bytes > 8 << 20, `${bytes} bytes discarded`)
    return `mkfs.ext4, fstrim: "${trimmed.split('\n').at(-1)}"; e2fsck finds no error`
  })
  await row('secure discard', async () => {
    await guest.run('dd if=/bin/busybox of=/dev/xvdb bs=64k count=8 conv=fsync 2>/dev/null')
    await guest.run(
      `blkdiscard -s -o 65536 -l 131072 /dev/xvdb; ${forget}; dd if=/dev/xvdb bs=64k skip=1 count=2 2>/dev/null | cmp -n 131072 - /dev/zero`,
    )
    const { status, stdout } = await guest.attempt('blkdiscard -s -o 65536 -l 131072 /dev/xvda')
    ok(status !== 0, 'a store without secure discard refuses it')
    return `blkdiscard -s: supported by the sparse store; the file store refuses it: ${stdout.trim()}`
  })
}

export async function dataPaths(row: Row, { dom0, guest, stats }: Rig): Promise<void> {
  const node = (name: string): Promise<string> =>
    dom0.run(`xenstore-read /local/domain/${guest.domid}/device/vbd/51712/${name}`)
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
    const written = await guest.run(
      `head -c 8388608 /dev/urandom > /tmp/data; dd if=/tmp/data of=/dev/xvdb bs=1M seek=8 conv=fsync 2>/dev/null; ${digest('/tmp/data')}; rm /tmp/data`,
    )
    strictEqual(
      await guest.run(`${forget}; dd if=/dev/xvdb bs=1M skip=8 count=8 2>/dev/null | sha256sum`),
      written,
    )
    const { xvdb } = await stats()
    strictEqual(xvdb?.['dataPath'], 'persistent')
    ok(Number(xvdb['persistentGrants']) > 0)
    return `8 MiB written and read; ${xvdb['persistentGrants']} pages stay mapped; dmesg: ${on}`
  })
  await row('mapped grants', async () => {
    const written = await guest.run(
      `head -c 8388608 /dev/urandom > /tmp/data; dd if=/tmp/data of=/dev/xvdc bs=1M conv=fsync 2>/dev/null; ${digest('/tmp/data')}; rm /tmp/data`,
    )
    strictEqual(
      await guest.run(`${forget}; dd if=/dev/xvdc bs=1M count=8 2>/dev/null | sha256sum`),
      written,
    )
    const { xvdc } = await stats()
    deepStrictEqual([xvdc?.['dataPath'], xvdc?.['persistentGrants']], ['map', 0])
    return '8 MiB written and read, sha256 agrees'
  })
}
