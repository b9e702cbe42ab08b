/**
 * Features about guests that are saved and restored, that crash, or that have several processors.
 */
import { deepStrictEqual, ok, strictEqual } from 'node:assert'
import { holdings } from '../../src/dom0/holdings.ts'
import { disks, dmesg, line, queue, type Rig, type Row } from './rig.ts'

export async function life(
  row: Row,
  { dom0, guest, server }: Rig,
  o: { readonly pid: string; readonly before: Awaited<ReturnType<typeof holdings>> },
): Promise<void> {
  let alive = guest
  await row('xl save, xl restore', async () => {
    await guest.run(
      'rm -f /tmp/*; head -c 4194304 /dev/urandom > /tmp/data; dd if=/tmp/data of=/dev/xvdb bs=1M conv=fsync 2>/dev/null',
    )
    await guest.run(
      '(while dd if=/dev/xvdb bs=1M count=4 iflag=direct 2>/dev/null | cmp -n 4194304 - /tmp/data; do echo >> /tmp/rounds; done > /tmp/failed 2>&1 &) ; until [ -s /tmp/rounds ]; do usleep 10000; done',
    )
    await dom0.run('xl save guest guest.save', 120)
    alive = await dom0.restoreGuest('guest', 'guest.save')
    await dom0.run('rm guest.save')
    const rounds = Number(await alive.run('wc -l < /tmp/rounds'))
    await alive.run(
      `until [ $(wc -l < /tmp/rounds) -gt ${rounds + 2} ]; do usleep 10000; done; [ ! -s /tmp/failed ]`,
    )
    for (const vdev of ['xvda', 'xvdc']) {
      await alive.run(`dd if=/dev/${vdev} of=/dev/null bs=1M count=1 iflag=direct 2>/dev/null`)
    }
    return `domain ${guest.domid} goes on as ${alive.domid}: its loop of reads finds what it wrote, before and after; dmesg: ${await dmesg(alive, 'xvdb')}`
  })
  await row('crash with requests in flight', async () => {
    await alive.run(
      `for vdev in xvdb xvdc xvda; do (io-bench /dev/$vdev random-read 4096 32 60 > /dev/null 2>&1 &) ; done; until grep -q '[1-9]' /sys/block/xvdb/inflight && grep -q '[1-9]' /sys/block/xvda/inflight; do usleep 1000; done`,
    )
    alive.crash()
    for (const vdev of Object.keys(disks)) {
      await server.output(new RegExp(`${vdev} of domain ${alive.domid}: removed`))
    }
    await dom0.when('@releaseDomain', `! xl list ${alive.domid}`)
    deepStrictEqual(await holdings(dom0, o.pid), o.before)
    return 'a panic, on_crash=destroy: all its disks are removed, dom0 holds what it held before there was a guest'
  })
}

/**
 * These rows use their own guests. In the other rows' guest, two vcpus would share one processor,
 * where each waits for the other's time slice to end.
 */
export async function queues(row: Row, { dom0, stats }: Rig): Promise<void> {
  await row('several queues', async () => {
    const guest = await dom0.createGuest({
      name: 'queues',
      disks: [line('xvda', disks.xvda)],
      vcpus: 2,
      kernelArguments: 'xen_blkfront.max_queues=2 xen_blkfront.max_ring_page_order=1',
    })
    await guest.disk('xvda')
    const node = (name: string): Promise<string> =>
      dom0.run(`xenstore-read /local/domain/${guest.domid}/device/vbd/51712/${name}`)
    const mq = await guest.run('ls /sys/block/xvda/mq | wc -l')
    deepStrictEqual(
      [mq.trim(), await node('multi-queue-num-queues'), (await stats())['xvda']?.['queues']],
      ['2', '2', 2],
    )
    ok(Number(await node('queue-1/ring-ref1')) > 0)
    await guest.run(
      'for cpu in 1 2; do taskset $cpu dd if=/dev/xvda of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null; done',
    )
    await guest.destroy()
    return '/sys/block/xvda/mq has 2, multi-queue-num-queues 2, each ring of 2 pages; each vcpu reads through its own'
  })
  await row('queues in threads', async () => {
    const server = dom0.spawn('exec single threads 2')
    const [, pid = ''] = await server.output(/^pid (\d+)$/m)
    const guest = await dom0.createGuest({
      name: 'threads',
      disks: [line('xvda', 'threads')],
      vcpus: 2,
      kernelArguments: 'xen_blkfront.max_queues=2',
    })
    await guest.disk('xvda')
    // Each thread opens its own hypervisor adapter: two workers and the main thread make three.
    strictEqual((await dom0.run(`ls -l /proc/${pid}/fd | grep -c /dev/xen/gntdev`)).trim(), '3')
    await guest.run(
      'head -c 4194304 /dev/urandom > /tmp/data; taskset 1 dd if=/tmp/data of=/dev/xvda bs=64k oflag=direct conv=fsync 2>/dev/null',
    )
    await guest.run(
      'taskset 2 dd if=/dev/xvda bs=64k count=64 iflag=direct 2>/dev/null | cmp - /tmp/data',
    )
    strictEqual(
      await dom0.run('head -c 4194304 threads.img | sha256sum'),
      await guest.run('sha256sum < /tmp/data'),
    )
    await guest.destroy()
    await server.output(/^removed$/m)
    strictEqual((await server.stop('SIGTERM')).status, 0)
    return 'two rings, each in a thread with /dev/xen/gntdev and evtchn of its own: 4 MiB written through one and read through the other'
  })
  await row('largest rings and requests', async () => {
    const guest = await dom0.createGuest({
      name: 'largest',
      disks: [line('xvda', disks.xvda)],
      kernelArguments: 'xen_blkfront.max_ring_page_order=4 xen_blkfront.max_indirect_segments=256',
    })
    await guest.disk('xvda')
    await dom0.run(`xenstore-exists /local/domain/${guest.domid}/device/vbd/51712/ring-ref15`)
    deepStrictEqual(
      [await queue(guest, 'xvda', 'max_segments'), await queue(guest, 'xvda', 'max_hw_sectors_kb')],
      ['256', '1024'],
    )
    await guest.run('echo 1024 > /sys/block/xvda/queue/max_sectors_kb')
    const before = (await stats())['xvda']
    await guest.run('dd if=/dev/xvda of=/dev/null bs=1M count=8 iflag=direct 2>/dev/null')
    const after = (await stats())['xvda']
    const reads = Number(after?.['reads']) - Number(before?.['reads'])
    strictEqual(Number(after?.['bytesRead']) - Number(before?.['bytesRead']), 8 << 20)
    strictEqual(reads, 8)
    const { requests: done } = JSON.parse(
      await guest.run('io-bench /dev/xvda random-read 4096 512 2'),
    )
    ok(done > 0)
    await guest.destroy()
    return `ring-ref15, max_segments 256: 8 MiB in ${reads} requests; ${done} reads of 4 KiB with 512 in flight`
  })
}
