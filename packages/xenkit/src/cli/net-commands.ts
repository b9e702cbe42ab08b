/** The commands of `xenkit net`. */
import { type Command, Option } from 'commander'
import { addresses, devid, domid, mac, mtu, queues, rate } from './arguments.ts'
import { netAttach, netServe } from './net.ts'
import { netDetach } from './net-change.ts'
import { netList } from './net-list.ts'
import { withControl } from './with-control.ts'

export function addNetCommands(xenkit: Command): void {
  const net = xenkit.command('net').description('network cards')
  const withLinks = (command: Command): Command =>
    command
      .addOption(
        new Option('--bridge <name>', 'give each card a TAP device in this bridge of the host'),
      )
      .addOption(
        new Option('--tap', 'give each card a TAP device in no bridge').conflicts('bridge'),
      )
      .addOption(
        new Option('--switch', 'connect the cards by a switch within this command').conflicts([
          'bridge',
          'tap',
        ]),
      )
      .addOption(
        new Option('--passt', "give each card the host's network, without root").conflicts([
          'bridge',
          'tap',
          'switch',
        ]),
      )
      .option('--capture <file>', 'write all frames to a pcapng file, or to a named pipe')
      .option('--queues <count>', 'most queues of a card', queues, 4)
  withLinks(net.command('serve'))
    .description(
      'serve the network cards that a toolstack gives to this domain: by default each by a TAP device in the bridge of its own configuration',
    )
    .option('--domid <domid>', 'serve only the cards of this domain', domid)
    .option('--devid <devid>', 'serve only cards of this number', devid)
    .action(netServe)
  withLinks(net.command('attach'))
    .description('plug a network card into a running domain and serve it until it is unplugged')
    .argument('<domid>', 'of the guest', domid)
    .option('--devid <devid>', 'number of the card; default: the first that is free', devid)
    .option('--mac <address>', "the guest's address; default: a random one", mac)
    .option('--ip <address>', 'an address that the guest may use; may be repeated', addresses)
    .option('--rate <rate>', 'most that the guest may send: 10Mb/s', rate)
    .option('--mtu <bytes>', 'most bytes of a packet', mtu)
    .action(netAttach)
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
