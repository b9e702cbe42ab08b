/** The commands of `xenkit net`. */
import { type Command, Option } from 'commander'
import { addresses, devid, domid, mac, mirrorPort, mtu, queues, rate, tunnel } from './arguments.ts'
import { netAttach, netServe } from './net.ts'
import { netCapture, netDetach, netMirror } from './net-change.ts'
import { netList } from './net-list.ts'
import { withControl } from './with-control.ts'

/** Options of `mirror`, as in the node. */
interface MirrorOptions {
  readonly to?: string
  readonly erspan?: string
}

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
  const served = (name: string, description: string): Command =>
    net
      .command(name)
      .description(description)
      .argument('<domid>', 'of the guest', domid)
      .argument('<devid>', 'number of the card, from 0', devid)
  served('capture', 'capture a card that xenkit serves to a pcapng file, which its server writes')
    .argument('[file]', 'file, or named pipe that somebody reads; without it the capture ends')
    .action((frontend: number, number: number, file: string | undefined) =>
      withControl((control) => netCapture(control, frontend, number, file)),
    )
  served('mirror', 'copy the frames of a card that xenkit serves, or end that without --to')
    .option(
      '--to <port>',
      'card:DOMID.DEVID of the same server, or tap:NAME, a TAP device for it',
      mirrorPort,
    )
    .option(
      '--erspan <ends>',
      'send the copies by ERSPAN: FROM,TO[,SESSION], where FROM and TO are MAC/IPv4',
      tunnel,
    )
    .action((frontend: number, number: number, o: MirrorOptions, command: Command) => {
      if (o.erspan !== undefined && o.to === undefined) command.error('error: --erspan needs --to')
      const target = [o.to, o.erspan].filter((part) => part !== undefined).join(' ')
      return withControl((control) => netMirror(control, frontend, number, target))
    })
}
