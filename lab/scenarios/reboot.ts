/**
 * Guests are created and destroyed while one backend keeps running. The backend must keep nothing
 * of guests that are gone.
 */
import { deepStrictEqual, strictEqual } from 'node:assert'
import { holdings } from '../src/dom0/holdings.ts'
import type { Lab } from '../src/scenario.ts'

export const title = 'a guest is destroyed and created again, and nothing is left behind'
export const programs = { xenkit: 'packages/xenkit/src/cli/main.ts' }

const LIVES = 3

export async function run({ boot, check }: Lab): Promise<void> {
  const dom0 = await boot()
  await dom0.run('head -c 8M /dev/urandom > disk.img')
  const server = dom0.spawn('echo "pid $$"; exec xenkit disk serve disk.img')
  const [, pid = ''] = await server.output(/^pid (\d+)$/m)
  await server.output(/waiting for a disk/)
  const before = await holdings(dom0, pid)

  for (let life = 1; life <= LIVES; life++) {
    const guest = await check(`life ${life}: the guest boots`, () =>
      dom0.createGuest({
        name: 'guest',
        disks: ['vdev=xvda,access=w,script=/bin/true,target=ours'],
      }),
    )
    const xvda = await guest.disk('xvda')
    await check(
      `life ${life}: it ${life > 1 ? 'finds what its former life wrote and ' : ''}writes`,
      async () => {
        const word = (offset: number): string =>
          `dd if=${xvda} bs=512 skip=${offset} count=1 2>/dev/null | tr -d '\\0'`
        if (life > 1) strictEqual(await guest.run(word(life - 1)), `life ${life - 1}`)
        await guest.run(
          `printf 'life ${life}' | dd of=${xvda} bs=512 seek=${life} conv=sync,fsync 2>/dev/null`,
        )
      },
    )
    // The last guest powers itself off, with its disk still connected.
    const bySelf = life === LIVES
    await check(
      `life ${life}: it is ${bySelf ? 'powered off' : 'destroyed'} while it reads`,
      async () => {
        await guest.run(
          `io-bench ${xvda} random-read 4096 32 60 & until grep -q '[1-9]' /sys/block/xvda/inflight; do usleep 1000; done`,
        )
        // `poweroff` never returns, because the guest is off then.
        if (bySelf) guest.attempt('poweroff -f').catch(() => {})
        else await guest.destroy()
        await server.output(new RegExp(`xvda of domain ${guest.domid}: removed`))
        // A destroyed domain stays as a zombie while another domain maps its pages.
        await dom0.when('@releaseDomain', `! xl list ${guest.domid}`)
      },
    )
    await check(
      `life ${life}: dom0 holds what it held before: event channels, grant mappings, files, xenstore nodes`,
      async () => {
        deepStrictEqual(await holdings(dom0, pid), before)
      },
    )
  }
  await check('the backend ends in good order', async () =>
    strictEqual((await server.stop('SIGTERM')).status, 0),
  )
}
