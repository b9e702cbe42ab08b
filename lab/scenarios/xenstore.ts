/** Runs the xenstore client against the xenstored of a running machine. */
import { relay } from '../src/relay.ts'
import type { Lab } from '../src/scenario.ts'

export const title =
  'every operation of the xenstore client beside a running guest, by the socket and by /dev/xen/xenbus'
export const programs = { xenstore: 'lab/dom0/xenstore/main.ts' }

export async function run(lab: Lab): Promise<void> {
  const dom0 = await lab.boot()
  const guest = await lab.check('a guest boots', () => dom0.createGuest({ name: 'guest' }))
  const relayed = (command: string): Promise<void> =>
    relay(lab, command, dom0.attempt(command, 120))

  await relayed('xenstore operations socket')
  // Hide xenstored's socket, so that only the kernel's device /dev/xen/xenbus is left.
  await dom0.run('mv /run/xenstored/socket /run/xenstored/hidden')
  await relayed('xenstore operations device')
  await dom0.run('mv /run/xenstored/hidden /run/xenstored/socket')

  const follower = dom0.spawn(`xenstore guest ${guest.domid}`)
  await follower.output(/^# watching$/m)
  await guest.destroy()
  await relay(lab, 'xenstore guest', follower.ended)

  const survivor = dom0.spawn('xenstore restart')
  await survivor.output(/^# watching$/m)
  // This check must come last: the kernel's watches are lost with the old xenstored, so the machine
  // can't be used any more.
  await dom0.run(
    'kill -9 $(cat /run/xen/xenstored.pid); rm /run/xen/xenstored.pid; xenstored --pid-file=/run/xen/xenstored.pid',
  )
  await relay(lab, 'xenstore restart', survivor.ended)
}
