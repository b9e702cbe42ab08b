#!/usr/bin/env node
/**
 * The `xenkit` command. A failure that the user can fix prints one line on stderr and exits with
 * code 1; wrong arguments exit with code 2.
 */
import { inspect } from 'node:util'
import { printable } from '@xenkit/hypervisor'
import { Command, CommanderError } from 'commander'
import {
  backendTypes,
  count,
  domid,
  imageFormat,
  programArgument,
  size,
  vdev,
  workers,
} from './arguments.ts'
import { demo } from './demo.ts'
import { demoNet } from './demo-net.ts'
import { diskAttach, diskServe } from './disk.ts'
import { diskDetach, diskEject, diskInsert, diskResize } from './disk-change.ts'
import { diskList } from './disk-list.ts'
import { doctor } from './doctor.ts'
import { addNetCommands } from './net-commands.ts'
import { printableLines } from './printable-lines.ts'
import { type SimOptions, sim } from './sim.ts'
import manifest from '../../package.json' with { type: 'json' }
import { isOneLine } from './usage-error.ts'
import { withControl } from './with-control.ts'
import { xenstored } from './xenstored.ts'

const WRONG_ARGUMENTS = 2

const xenkit = new Command('xenkit')
  .description(manifest.description)
  .version(manifest.version)
  .enablePositionalOptions()
  .exitOverride()

const disk = xenkit.command('disk').description('virtual block devices')
const existing = (name: string, description: string): Command =>
  disk
    .command(name)
    .description(description)
    .argument('<domid>', 'of the guest', domid)
    .argument('<vdev>', 'such as xvda', vdev)
disk
  .command('serve [image]')
  .description(
    'serve the disks that a toolstack gives to this domain: with an image, or else each with the image in its own configuration',
  )
  .option('--read-only', 'refuse writes', false)
  .option('--no-locking', 'open the image even if others have it open and may write to it')
  .option(
    '--format <format>',
    'raw: the image is raw, whatever its first bytes look like',
    imageFormat,
  )
  .option('--domid <domid>', 'serve only the disks of this domain', domid)
  .option('--vdev <vdev>', 'serve only disks of this name, such as xvda', vdev)
  .option(
    '--backend-types <types>',
    'xenstore names under which toolstacks create the disks: vbd, vbd3 (backendtype=tap), qdisk',
    backendTypes,
    ['vbd'],
  )
  .option(
    '--workers <count>',
    "threads that serve the disks' queues, in addition to the command's own",
    workers,
    0,
  )
  .action(diskServe)
disk
  .command('attach')
  .description('plug an image into a running domain and serve it until it is unplugged')
  .argument('<domid>', 'of the guest', domid)
  .argument('<vdev>', 'such as xvdb', vdev)
  .argument('[image]', 'optional for a CD-ROM drive')
  .option('--read-only', 'refuse writes', false)
  .option('--no-locking', 'open the image even if others have it open and may write to it')
  .option(
    '--format <format>',
    'raw: the image is raw, whatever its first bytes look like',
    imageFormat,
  )
  .option('--cdrom', 'plug a CD-ROM drive, whose medium can be changed', false)
  .option(
    '--workers <count>',
    "threads that serve the disks' queues, in addition to the command's own",
    workers,
    0,
  )
  .action(diskAttach)
disk
  .command('list')
  .description("list the disks of this domain's backends, whichever program serves them")
  .option('--json', 'machine-readable', false)
  .action(diskList)
existing('detach', 'unplug a disk')
  .option('--force', 'even if its guest still uses it', false)
  .action((frontend: number, name: string, o: { force: boolean }) =>
    withControl((control) => diskDetach(control, frontend, name, o)),
  )
existing('resize', 'change the size of a disk that xenkit serves')
  .argument('<size>', 'in bytes, or with K, M, G or T', size)
  .action((frontend: number, name: string, sectors: number) =>
    withControl((control) => diskResize(control, frontend, name, sectors)),
  )
existing('insert', 'put an image into a CD-ROM drive that xenkit serves')
  .argument('<image>')
  .action((frontend: number, name: string, image: string) =>
    withControl((control) => diskInsert(control, frontend, name, image)),
  )
existing('eject', 'remove the medium from a CD-ROM drive that xenkit serves').action(
  (frontend: number, name: string) => withControl((control) => diskEject(control, frontend, name)),
)

addNetCommands(xenkit)

xenkit
  .command('doctor')
  .description('report what this machine offers of Xen, and what is missing')
  .option('--json', 'machine-readable', false)
  .action(doctor)

xenkit
  .command('sim')
  .description('run a backend program against a simulated guest, which reads all of its disk')
  .argument('<program>', 'JavaScript or TypeScript')
  .argument('[args...]', 'of the program', programArgument)
  .option('--writes <count>', 'random writes to make and verify', count, 0)
  .option('--seed <seed>', 'of the simulation and the writes', count, 1)
  .passThroughOptions()
  .action((program: string, args: readonly string[] = [], o: SimOptions) => sim(program, args, o))

const demos = xenkit
  .command('demo [image]')
  .description('serve an image, which is not changed, or a disk in memory to a simulated guest')
  .option('--writes <count>', 'random writes to make and verify', count, 500)
  .option('--seed <seed>', 'of the simulation and the writes', count, 1)
  .action(demo)
demos
  .command('net')
  .description('connect the network cards of two simulated guests, and capture what they send')
  .option('--seed <seed>', 'of the simulation', count, 1)
  .action(demoNet)

xenkit
  .command('xenstored')
  .description(
    "run a xenstored without Xen, for Xen's own tools (XENSTORED_PATH=PATH xenstore-ls) or any other client",
  )
  .requiredOption('--socket <path>', 'unix socket to listen on')
  .action(xenstored)

try {
  await xenkit.parseAsync()
} catch (error) {
  // commander has printed its own errors.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : WRONG_ARGUMENTS
  else {
    console.error(
      isOneLine(error) ? `xenkit: ${printable(error.message)}` : printableLines(inspect(error)),
    )
    process.exitCode = 1
  }
}
