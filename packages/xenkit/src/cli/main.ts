#!/usr/bin/env node
/** The `xenkit` command. An error that the user can mend is one line on stderr and exit code 1. */
import { DOMID_MAX, XenError } from '@xenkit/hypervisor'
import { Command, InvalidArgumentError } from 'commander'
import { demo } from './demo.ts'
import { diskAttach, diskServe } from './disk.ts'
import { doctor } from './doctor.ts'
import { sim } from './sim.ts'
import manifest from '../../package.json' with { type: 'json' }
import { UsageError } from './usage-error.ts'
import { xenstored } from './xenstored.ts'

const xenkit = new Command('xenkit').description(manifest.description).version(manifest.version).enablePositionalOptions()

const disk = xenkit.command('disk').description('virtual block devices')
disk
  .command('serve <image>')
  .description('serve an image as the next disk that a toolstack gives to this domain')
  .option('--read-only', 'refuse writes', false)
  .option('--domid <domid>', 'serve only the disk of this domain', domid)
  .option('--vdev <vdev>', 'serve only the disk of this name, such as xvda')
  .action(diskServe)
disk
  .command('attach <domid> <vdev> <image>')
  .description('plug an image into a running domain and serve it until it is unplugged')
  .option('--read-only', 'refuse writes', false)
  .action((frontend: string, vdev: string, image: string, o: { readOnly: boolean }) => diskAttach(domid(frontend), vdev, image, o))

xenkit.command('doctor').description('say what of Xen this machine has, and what is missing').option('--json', 'machine-readable', false).action(doctor)

xenkit
  .command('sim <program> [args...]')
  .description('run a backend program against a simulated guest, which reads all of its disk')
  .option('--writes <count>', 'overwrite random places of the disk, and verify', count, 0)
  .option('--seed <seed>', 'of the simulation and the writes', count, 1)
  .passThroughOptions()
  .action((program: string, args: string[], o: { writes: number; seed: number }) => sim(program, args, o))

xenkit
  .command('demo [image]')
  .description('serve an image, or one made for it, to a simulated guest and verify every byte')
  .option('--writes <count>', 'random writes to make and verify', count, 500)
  .option('--seed <seed>', 'of the simulation and the writes', count, 1)
  .action(demo)

xenkit
  .command('xenstored')
  .description('run a xenstored without Xen, for Xen\'s own tools (XENSTORED_PATH=PATH xenstore-ls) and any other client')
  .requiredOption('--socket <path>', 'unix socket to listen on')
  .action(xenstored)

function count(value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw new InvalidArgumentError('expected a decimal number')
  return Number(value)
}

function domid(value: string): number {
  if (!/^\d{1,5}$/.test(value) || Number(value) > DOMID_MAX) throw new InvalidArgumentError(`expected a domain id, 0..${DOMID_MAX}: see "xl list"`)
  return Number(value)
}

try {
  await xenkit.parseAsync()
} catch (error) {
  const mendable = error instanceof UsageError || error instanceof XenError || error instanceof InvalidArgumentError
  console.error(mendable ? `xenkit: ${error.message}` : error)
  process.exitCode = 1
}
