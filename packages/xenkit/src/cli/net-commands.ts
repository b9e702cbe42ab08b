/** The commands of `xenkit net`. */
import type { Command } from 'commander'
import { devid, domid } from './arguments.ts'
import { netDetach } from './net-change.ts'
import { netList } from './net-list.ts'
import { withControl } from './with-control.ts'

export function addNetCommands(xenkit: Command): void {
  const net = xenkit.command('net').description('network cards')
  net
    .command('list')
    .description("list the network cards of this domain's backends, whichever program serves them")
    .option('--json', 'machine-readable', false)
    .action(netList)
  net
    .command('detach')
    .description('unplug a network card')
    .argument('<domid>', 'of the guest', domid)
    .argument('<devid>', 'number of the card, from 0', devid)
    .option('--force', 'even if its guest still uses it', false)
    .action((frontend: number, number: number, o: { force: boolean }) =>
      withControl((control) => netDetach(control, frontend, number, o)),
    )
}
