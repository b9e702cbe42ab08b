/**
 * `backendtype=tap` in an xl configuration: xenkit serves these disks in place of tapback, whether
 * blkback is loaded or not.
 */
import { match, strictEqual } from 'node:assert'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { repository } from '../src/paths.ts'
import type { Lab } from '../src/scenario.ts'
import type { StackName } from '../src/stack.ts'

export const title = "disks of backendtype=tap are served beside the kernel's blkback"
export const programs = { xenkit: 'packages/xenkit/src/cli/main.ts' }
/** libxl 4.17 doesn't know backendtype=tap. */
export const stacks: readonly StackName[] = ['debian13-pvh']

const line = (vdev: string, image: string, script = 'xenkit-hotplug'): string =>
  `vdev=${vdev},access=w,backendtype=tap,script=${script},target=/tmp/${image}`
const digest = (file: string): string => `sha256sum < ${file}`

export async function run({ boot, check }: Lab): Promise<void> {
  const dom0 = await boot()
  const script = await readFile(
    join(repository, 'packages/xenkit/hotplug/xenkit-hotplug'),
    'base64',
  )
  await dom0.run(
    `echo ${script} | base64 -d > /etc/xen/scripts/xenkit-hotplug; chmod 755 /etc/xen/scripts/xenkit-hotplug; modprobe xen-blkback`,
  )
  await dom0.run('head -c 8M /dev/urandom > first.img; head -c 4M /dev/urandom > second.img')
  const server = dom0.spawn('exec xenkit disk serve --backend-types vbd3')
  await server.output(/waiting for a disk/)

  const guest = await check('a guest boots with such a disk, script=xenkit-hotplug', () =>
    dom0.createGuest({ name: 'guest', disks: [line('xvda', 'first.img')] }),
  )
  await check('the guest reads all of it, sha256 agrees', async () => {
    strictEqual(
      await guest.run(digest(await guest.disk('xvda'))),
      await dom0.run(digest('first.img')),
    )
  })
  await check('xl block-list and xenkit disk list have it', async () => {
    match(await dom0.run(`xl block-list ${guest.domid}`), /51712 .*\/backend\/vbd3\//)
    match(
      await dom0.run('xenkit disk list'),
      /xvda +vbd3 +Connected +Connected +16384 +w +yes +aio:\/tmp\/first.img/,
    )
  })
  await check('xl block-attach and block-detach, script=/bin/true', async () => {
    await dom0.run(`xl block-attach ${guest.domid} '${line('xvdb', 'second.img', '/bin/true')}'`)
    strictEqual(
      await guest.run(digest(await guest.disk('xvdb'))),
      await dom0.run(digest('second.img')),
    )
    await dom0.run(`xl block-detach ${guest.domid} xvdb`)
    await guest.diskGone('xvdb')
  })
  await check('xl reports a missing image', async () => {
    const { status, stderr } = await dom0.attempt(
      `xl block-attach ${guest.domid} '${line('xvdc', 'nowhere.img')}'`,
    )
    strictEqual(status, 1)
    match(stderr, /script: image "…" can't be opened: there is no such file/)
  })
  await check('no node is left after the guest is destroyed', async () => {
    await guest.destroy()
    await server.stop('SIGINT')
    strictEqual(await dom0.run('xenstore-ls -f /local/domain/0/backend | grep /vbd3/ || true'), '')
  })
}
