/**
 * Checks the client against the xenstored of this machine. `operations CARRIER` runs every
 * operation over the current connection, which CARRIER names: `socket` or `device`. `guest DOMID`
 * follows a running guest until it ends. `restart` survives a restart of xenstored. The scenario
 * `xenstore` reads its output.
 */
import { deepStrictEqual, ok, rejects, strictEqual } from 'node:assert'
import { openXen } from '@xenkit/xen'
import { type Outage, openXenstore, type XenstoreClient } from '@xenkit/xenstore-client'
import { operations, resetWatches } from '../../src/xenstore-operations.ts'
import { check, soon } from '../tap.ts'

async function everyOperation(xs: XenstoreClient, carrier: string): Promise<void> {
  for (const { name, run } of operations) {
    await check(`${carrier}: ${name}`, () => soon(name, run(xs)))
  }
  if (carrier === 'socket') {
    await check(`${carrier}: ${resetWatches.name}`, () => resetWatches.run(xs))
  } else {
    await check(`${carrier}: the watches of the kernel are not reset`, () =>
      rejects(xs.resetWatches(), { errno: 'EACCES' }),
    )
  }
}

/** Reads and watches the nodes of a running guest until the scenario ends the guest. */
async function followGuest(xs: XenstoreClient, domid: number): Promise<void> {
  const home = await xs.getDomainPath(domid)
  await check('guest: it is introduced, and has a home with a name', async () => {
    strictEqual(await xs.isDomainIntroduced(domid), true)
    strictEqual(await xs.read(`${home}/name`), 'guest')
  })
  await check(
    'guest: its kernel watches its own nodes: a request to shut down is taken',
    async () => {
      // Linux empties the node before it acts. "h" is sysrq's help, which has no other effect.
      const taken = xs.wait(
        async (view) => (await view.readOptional(`${home}/control/sysrq`)) === '' || undefined,
      )
      await xs.write(`${home}/control/sysrq`, 'h')
      strictEqual(await soon('the kernel took it', taken), true)
    },
  )
  await check('guest: a node belongs to its new owner', async () => {
    await xs.transaction(async (view) => {
      await view.write(`${home}/data/ours`, '1')
      await view.setPerms(`${home}/data/ours`, {
        owner: domid,
        access: 'none',
        acl: [{ domid: 0, access: 'read' }],
      })
    })
    deepStrictEqual(await xs.getPerms(`${home}/data/ours`), {
      owner: domid,
      access: 'none',
      acl: [{ domid: 0, access: 'read' }],
    })
  })
  await check('guest: its end fires @releaseDomain, and its home is removed', async () => {
    const released = xs.watch('@releaseDomain')
    await released.next()
    const end = released.next()
    console.log('# watching')
    strictEqual((await end).value, '@releaseDomain')
    await released.return?.()
    await xs.wait(async (view) => (await view.exists(home)) === false || undefined)
    strictEqual(await xs.isDomainIntroduced(domid), false)
  })
}

/** Kills xenstored and starts a new one. The store's content is lost, but the client continues. */
async function outlive(xs: XenstoreClient, outages: readonly Outage[]): Promise<void> {
  const path = '/outlive'
  await xs.write(path, 'before')
  const watch = xs.watch(path)
  await watch.next()
  const again = watch.next()
  console.log('# watching')
  await check('restart: the watch is set again and fires once', async () =>
    strictEqual((await again).value, path),
  )
  await check('restart: the client continues, and has reported one outage', async () => {
    strictEqual(await xs.readOptional(path), undefined)
    await xs.write(path, 'after')
    strictEqual(await xs.read(path), 'after')
    strictEqual((await watch.next()).value, path)
    ok(outages.length === 1, `${outages.length} outages`)
  })
  await watch.return?.()
}

const [what, argument = ''] = process.argv.slice(2)
await using hv = await openXen()
const outages: Outage[] = []
using xs = await openXenstore(hv.xenstore, { onReconnect: (outage) => outages.push(outage) })
if (what === 'operations') await everyOperation(xs, argument)
else if (what === 'guest') await followGuest(xs, Number(argument))
else await outlive(xs, outages)
console.log('# end')
