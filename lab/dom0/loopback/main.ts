/**
 * Exercises @xenkit/xen against this domain itself, first on the main thread, then on a worker. At
 * the end it checks that no resource is still held. The scenario `loopback` reads its output.
 */
import { deepStrictEqual, notDeepStrictEqual, strictEqual } from 'node:assert'
import { once } from 'node:events'
import { setImmediate as turn } from 'node:timers/promises'
import { Worker, isMainThread, workerData } from 'node:worker_threads'
import { loadNative } from '@xenkit/native'
import { openXen } from '@xenkit/xen'
import { openXenstore } from '@xenkit/xenstore-client'
import { checkEventChannels } from './event-channels.ts'
import { checkGrants } from './grants.ts'
import { check, soon } from '../tap.ts'
import { beVictim, checkKilledProcess } from './victim.ts'
import { checkXenbusDevice } from './xenbus-device.ts'

const NOTHING = { fds: 0, mappings: 0, shares: 0, ports: 0, polls: 0 }

/**
 * Returns the resources that this process holds. Arenas aren't counted, because their memory is
 * freed when their ArrayBuffer is collected.
 */
function held(): typeof NOTHING {
  const { fds, mappings, shares, ports, polls } = loadNative().counters()
  return { fds, mappings, shares, ports, polls }
}

async function expectNothingHeld(): Promise<void> {
  // libuv frees closed handles at the end of a round of the event loop, which comes between these
  // two calls.
  await turn()
  await turn()
  deepStrictEqual(held(), NOTHING)
}

async function everything(where: string): Promise<void> {
  const hv = await openXen()
  await checkGrants(hv, where)
  await checkEventChannels(hv, where)
  await check(`${where}: xenstored answers`, async () => {
    using xs = await openXenstore(hv.xenstore)
    strictEqual(await xs.read('/local/domain/0/name'), 'Domain-0')
  })
  if (isMainThread) await checkKilledProcess(hv)
  await hv.close()
}

async function throughXenbusDevice(): Promise<void> {
  const hv = await openXen()
  await checkXenbusDevice(hv)
  await hv.close()
  await check('xenbus device: nothing is held after close', expectNothingHeld)
  console.log('# end')
}

/** Opens a grant, a mapping and a port, reports it, and keeps all of them open. */
async function holdOn(): Promise<void> {
  const hv = await openXen()
  const { domid } = hv
  const shared = hv.grants.share({ domid, pages: 1, writable: true })
  hv.grants.map([{ domid, gref: shared.grefs[0] ?? 0 }], { writable: true })
  hv.evtchn.bindUnbound({ domid }, () => {})
  console.log('holding')
}

async function work(): Promise<void> {
  await everything('main thread')
  await check('main thread: nothing is held after close', expectNothingHeld)

  const worker = new Worker(new URL(import.meta.url), { workerData: 'everything' })
  await once(worker, 'exit')
  await check('worker: nothing is held after close', expectNothingHeld)

  await check('worker: when it is terminated, its mapping, share and port are freed', async () => {
    const holder = new Worker(new URL(import.meta.url), { workerData: 'holdOn', stdout: true })
    await soon('the start of the worker', once(holder.stdout, 'data'))
    notDeepStrictEqual(held(), NOTHING)
    await holder.terminate()
    await expectNothingHeld()
  })
  console.log('# end')
}

const [role, gref, port] = process.argv.slice(2)
if (workerData === 'everything') await everything('worker')
else if (workerData === 'holdOn') await holdOn()
else if (role === 'xenbus-device') await throughXenbusDevice()
else if (role === 'victim') await beVictim(Number(gref), Number(port))
else await work()
