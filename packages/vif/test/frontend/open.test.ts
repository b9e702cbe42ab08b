/**
 * Connecting and closing a card: nodes, states and event channels, against a hand-written backend.
 */
import { ALL_OFFLOADS, Frames } from '@xenkit/frames'
import { expect, test } from 'vitest'
import { VifClosedError, openVif } from '../../src/index.ts'
import { bytesOf, connectedVif } from '../support/connected-vif.ts'
import { HandBackend } from '../support/hand-backend.ts'

test('one queue: flat nodes, and features of which each is written, on or off', async () => {
  await using r = await connectedVif({ splitChannels: false })
  const { back, vif } = r
  expect(await back.node('multi-queue-num-queues')).toBe('1')
  expect(await back.node('event-channel')).toMatch(/^\d+$/)
  expect(await back.node('event-channel-tx')).toBeUndefined()
  expect(await back.node('request-rx-copy')).toBe('1')
  expect(await back.node('feature-rx-notify')).toBe('1')
  expect(await back.node('feature-sg')).toBe('1')
  expect(await back.node('feature-gso-tcpv4')).toBe('0')
  expect(await back.node('feature-gso-tcpv6')).toBe('0')
  // No offloads: IPv4's checksums have to be turned off, IPv6's are off.
  expect(await back.node('feature-no-csum-offload')).toBe('1')
  expect(await back.node('feature-ipv6-csum-offload')).toBe('0')
  expect(await back.node('ctrl-ring-ref')).toMatch(/^\d+$/)
  expect(vif.mac).toEqual(Uint8Array.of(0, 0x16, 0x3e, 1, 2, 3))
  expect(vif.mtu).toBe(9000)
  expect(vif.offloads).toEqual(ALL_OFFLOADS)
  expect(vif.carrier).toBe(true)
})

test('offloads are offered as they are given, IPv4 checksums by the inverted node', async () => {
  await using r = await connectedVif({ offloads: ALL_OFFLOADS })
  expect(await r.back.node('feature-gso-tcpv4')).toBe('1')
  expect(await r.back.node('feature-gso-tcpv6')).toBe('1')
  expect(await r.back.node('feature-no-csum-offload')).toBe('0')
  expect(await r.back.node('feature-ipv6-csum-offload')).toBe('1')
})

test.each([true, false])('four queues, split channels %s, each carry frames', async (split) => {
  await using r = await connectedVif({ queues: 4, splitChannels: split })
  const { back, vif } = r
  expect(vif.queues).toBe(4)
  expect(await back.node('multi-queue-num-queues')).toBe('4')
  for (const flat of ['tx-ring-ref', 'rx-ring-ref', 'event-channel', 'event-channel-tx']) {
    expect(await back.node(flat)).toBeUndefined()
  }
  const port = split ? 'event-channel-rx' : 'event-channel'
  expect(await back.node(`queue-3/${port}`)).toMatch(/^\d+$/)
  for (const [i, queue] of back.queues.entries()) {
    const got = new Promise<number>((resolve) => {
      const listening = vif.onFrames((_, from) => {
        listening[Symbol.dispose]()
        resolve(from)
      })
    })
    queue.receive({ data: bytesOf(60) })
    expect(await got).toBe(i)
    expect(queue.rx.size - queue.rx.available).toBeGreaterThan(0)
  }
})

test('what an earlier connection left is removed before the next one is published', async () => {
  await using back = await HandBackend.open()
  for (const o of [
    { queues: 4, splitChannels: true },
    { queues: 1, splitChannels: true },
    { queues: 1, splitChannels: false },
  ]) {
    const opening = openVif(back.guest, { devid: 0, staticGrants: false, ...o })
    await back.frontState(1)
    await back.state(2)
    await back.connect()
    const vif = await opening
    const flat = o.queues === 1
    expect((await back.node('tx-ring-ref')) !== undefined).toBe(flat)
    expect((await back.node('queue-0/tx-ring-ref')) !== undefined).toBe(!flat)
    expect((await back.node('event-channel')) !== undefined).toBe(flat && !o.splitChannels)
    expect((await back.node('event-channel-tx')) !== undefined).toBe(flat && o.splitChannels)
    const closing = vif.close()
    await back.close()
    await closing
  }
})

test('options that the backend does not offer are refused, and nothing stays open', async () => {
  await using back = await HandBackend.open({ 'feature-rx-copy': '1' })
  const open = (o: object): Promise<unknown> => openVif(back.guest, { devid: 0, ...o })
  await expect(open({ queues: 2 })).rejects.toThrow('at most 1')
  await expect(open({ queues: 9 })).rejects.toThrow('1..8')
  await expect(open({ splitChannels: true })).rejects.toThrow('feature-split-event-channels')
  await expect(open({ multicastControl: true })).rejects.toThrow('feature-multicast-control')
  await expect(open({ xdpHeadroom: 256 })).rejects.toThrow('feature-xdp-headroom')
  await back.set('feature-rx-copy', '0')
  await expect(open({})).rejects.toThrow('feature-rx-copy')
})

test('a backend that only copies gets one joint queue, without a control ring', async () => {
  await using r = await connectedVif({ offer: { 'feature-rx-copy': '1' } })
  expect(await r.back.node('event-channel')).toMatch(/^\d+$/)
  expect(await r.back.node('ctrl-ring-ref')).toBeUndefined()
  await expect(r.vif.setHash(undefined)).rejects.toThrow('feature-ctrl-ring')
})

test('the carrier follows the node of the backend', async () => {
  await using r = await connectedVif()
  const changes: boolean[] = []
  const next = (): Promise<void> =>
    new Promise((resolve) => {
      const listening = r.vif.onCarrier((up) => {
        changes.push(up)
        listening[Symbol.dispose]()
        resolve()
      })
    })
  for (const value of ['0', '1']) {
    const changed = next()
    await r.back.set('carrier', value)
    await changed
    expect(r.vif.carrier).toBe(value === '1')
  }
  expect(changes).toEqual([false, true])
})

test('a backend that closes closes the card: carrier down, and calls fail', async () => {
  await using back = await HandBackend.open()
  const opening = openVif(back.guest, { devid: 0, staticGrants: false })
  await back.connect()
  const vif = await opening
  const down = new Promise<boolean>((resolve) => vif.onCarrier(resolve))
  await back.close()
  expect(await down).toBe(false)
  expect(() => vif.send(new Frames(1))).toThrow(VifClosedError)
  await expect(vif.sendFrame(bytesOf(60))).rejects.toThrow('was closed')
  await vif.close()
})

test('a backend that does not close keeps "close" waiting until its signal aborts', async () => {
  await using back = await HandBackend.open()
  const opening = openVif(back.guest, { devid: 0, staticGrants: false })
  await back.connect()
  const vif = await opening
  // It releases the rings, without saying so.
  back.release()
  const reason = new Error('enough')
  const closing = vif.close({ signal: AbortSignal.abort(reason) })
  await expect(closing).rejects.toBe(reason)
  await back.frontState(6)
})

test('headroom: the node is written, and the backend asked to use it', async () => {
  await using back = await HandBackend.open()
  const opening = openVif(back.guest, { devid: 0, staticGrants: false, xdpHeadroom: 256 })
  await back.connect()
  expect(await back.node('xdp-headroom')).toBe('256')
  await back.frontState(7)
  await back.state(8)
  const vif = await opening
  const changing = vif.setXdpHeadroom(0)
  await changing
  expect(await back.node('xdp-headroom')).toBe('0')
  const closing = vif.close()
  await back.close()
  await closing
})
