/**
 * Bugs of other backends in handshake and teardown, each replayed with the right behaviour. Their
 * reports are named where they are public.
 */
import { describe, expect, test } from 'vitest'
import { openVif, unplugVif, VifClosedError } from '../../src/index.ts'
import { type FrontendTable, HandFront, type Write } from '../support/hand-front.ts'
import { LINUX, LINUX_5_10, MIRAGE } from '../support/real-frontends.ts'
import { Served } from '../support/served.ts'

/** A frontend that writes some nodes with other values, or leaves them out. */
function withNodes(
  table: FrontendTable,
  change: Readonly<Record<string, string | undefined>>,
): FrontendTable {
  const changed = (write: Write): Write[] => {
    const name = typeof write === 'string' ? write : write[0]
    if (!Object.hasOwn(change, name)) return [write]
    const value = change[name]
    return value === undefined ? [] : [[name, value]]
  }
  return { ...table, writes: table.writes.map((writes) => writes.flatMap(changed)) }
}

describe('queues that do not fit are refused: the error names the node, and the card closes', () => {
  test.each([
    ['zero queues (netback, 2026-02)', LINUX_5_10, '0', undefined],
    ['more queues than are offered', LINUX_5_10, '200', undefined],
    ['two queues, but flat nodes', LINUX_5_10, '2', undefined],
    ['four queues without nodes of the last', LINUX, '4', 'queue-3/tx-ring-ref'],
    ['four queues, one without event channel', LINUX, '4', 'queue-2/event-channel-rx'],
  ])('%s', async (_, table, queues, missing) => {
    await using r = await Served.open()
    const change = { 'multi-queue-num-queues': queues, ...(missing && { [missing]: undefined }) }
    const front = await HandFront.open(r.guest, withNodes(table, change))
    r.serve()
    await front.publish()
    const { error } = await r.event('failed')
    expect(String(error)).toMatch(/multi-queue-num-queues|queue-\d/)
    const node = `/local/domain/${r.dom0.domid}/error/backend/vif/${r.guest.domid}/0/error`
    expect(await r.xs.readOptional(node)).toMatch(/multi-queue-num-queues|queue-\d/)
    await r.node('state', '5', '6')
    expect(r.link.end.carriers).toEqual([])
    // Once the guest has closed as well, another try is served.
    await front.close()
    front.release()
    const again = await HandFront.open(r.guest, { ...LINUX_5_10, resets: true })
    await again.connect()
    await again.close()
    again.release()
  })
})

test('queues beyond those that are offered are refused, though their nodes are there', async () => {
  await using r = await Served.open()
  const front = await HandFront.open(r.guest, LINUX)
  r.serve({ queues: 3 })
  await front.publish()
  const { error } = await r.event('failed')
  expect(String(error)).toMatch('multi-queue-num-queues" holds "4", expected a number 1..3')
  await front.close()
  front.release()
})

test('an emulated card of another domain, which never connects, blocks no other', async () => {
  await using r = await Served.open()
  // A guest with emulated devices has one card, of which its device model may have another: the
  // toolstack plugs both (qubes-mirage-firewall #230).
  const model = r.machine.createDomain()
  await r.plug(model)
  for (const guest of [r.guest, model]) await r.xs.write(`${r.path(guest)}/type`, 'vif_ioemu')
  r.serve()
  const front = await HandFront.open(r.guest, LINUX_5_10)
  await front.connect()
  await r.event('connected')
  expect(await r.xs.read(`${r.path(model)}/state`)).toBe('2')
  const late = await HandFront.open(model, MIRAGE)
  await late.connect()
  await r.event('connected', model)
  await front.close()
  front.release()
  r.machine.destroyDomain(model.domid)
  await r.event('closed', model)
  late.release()
})

describe('the hotplug script', () => {
  test('prepares the card before it is connected, once for all connections', async () => {
    await using r = await Served.open()
    await r.xs.write(`${r.path()}/script`, '/etc/xen/scripts/vif-bridge')
    r.serve()
    const front = await HandFront.open(r.guest, LINUX_5_10)
    await front.publish()
    await r.xs.write(`${r.path()}/hotplug-status`, 'connected')
    await front.backendState(4)
    // Linux bc0d8f6266f6: the node stays until the card is gone, whatever the frontend does.
    await front.close()
    front.release()
    expect(await r.xs.read(`${r.path()}/hotplug-status`)).toBe('connected')
    const again = await HandFront.open(r.guest, { ...LINUX_5_10, resets: true })
    await again.connect()
    expect(await r.xs.read(`${r.path()}/hotplug-status`)).toBe('connected')
    await again.close()
    again.release()
  })

  test('that has not run yet keeps the card from Connected', async () => {
    await using r = await Served.open()
    await r.xs.write(`${r.path()}/script`, '/etc/xen/scripts/vif-bridge')
    r.serve()
    const front = await HandFront.open(r.guest, LINUX_5_10)
    await front.publish()
    // The service has seen all that was written before it serves another card's frontend.
    const other = r.machine.createDomain()
    await r.plug(other)
    const second = await HandFront.open(other, MIRAGE)
    await second.connect()
    expect(await r.xs.read(`${r.path()}/state`)).toBe('2')
    await front.close()
    r.machine.destroyDomain(other.domid)
    await r.event('closed', other)
    for (const each of [front, second]) each.release()
  })
})

test('a service that ends while clients run: carriers down, Closing, Closed, then another', async () => {
  await using r = await Served.open()
  r.serve()
  const vif = await openVif(r.guest, { devid: 0 })
  const down = new Promise<boolean>((resolve) => vif.onCarrier(resolve))
  const ended = vif[Symbol.asyncIterator]().next()
  await r.stop()
  expect(await down).toBe(false)
  expect(await ended).toEqual({ done: true, value: undefined })
  await expect(vif.writable()).rejects.toThrow(VifClosedError)
  expect(r.link.end.carriers).toEqual([true, false])
  await vif.close()
  expect(await r.xs.read(`${r.path()}/state`)).toBe('6')
  // A toolstack plugs the card again for another service.
  await unplugVif(r.xs, r.address)
  await r.plug()
  r.serve()
  await using again = await openVif(r.guest, { devid: 0 })
  expect(again.carrier).toBe(true)
})

test('a card that is unplugged while its client runs is closed, and its nodes are gone', async () => {
  await using r = await Served.open()
  r.serve()
  const vif = await openVif(r.guest, { devid: 0 })
  const down = new Promise<boolean>((resolve) => vif.onCarrier(resolve))
  await unplugVif(r.xs, r.address)
  expect(await down).toBe(false)
  await vif.close()
  await r.event('removed')
  expect(r.link.end.carriers).toEqual([true, false])
  expect(await r.xs.exists(r.path())).toBe(false)
})

test('a client that does not close is given up when its domain is destroyed', async () => {
  await using r = await Served.open()
  r.serve()
  const front = await HandFront.open(r.guest, MIRAGE)
  await front.connect()
  const unplugged = unplugVif(r.xs, r.address)
  await r.node('state', '5')
  r.machine.destroyDomain(r.guest.domid)
  await unplugged
  await r.event('removed')
  expect(r.link.end.carriers).toEqual([true, false])
  front.release()
})
