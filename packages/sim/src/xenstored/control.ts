/**
 * The request CONTROL: the commands of 4.17's `xenstore-control` that make sense here. Any other
 * command is EINVAL, as in 4.17.
 */
import { XS } from '@xenkit/wire'
import { atoi, strings } from './arguments.ts'
import { childNames } from './children.ts'
import type { Domain } from './domain.ts'
import { childOf } from './path.ts'
import type { QuotaName } from './quota.ts'
import { Refusal } from './refusal.ts'
import type { Handlers } from './request.ts'
import type { Server } from './server.ts'
import type { Store } from './store.ts'

interface Command {
  /** The command's parameters, as `help` shows them. */
  readonly parameters: string
  /** @returns the reply, without its NUL */
  run(xenstored: Server, args: readonly string[]): string
}

const OK = 'OK'

/** Names, order and descriptions are those of 4.17; SET_QUOTA uses another name in one case. */
const HARD_QUOTAS: readonly (readonly [shown: string, name: QuotaName, description: string])[] = [
  ['nodes', 'nodes', 'Nodes per domain'],
  ['watches', 'watches', 'Watches per domain'],
  ['transactions', 'transactions', 'Transactions per domain'],
  ['outstanding', 'outstanding', 'Outstanding requests per domain'],
  ['transaction-nodes', 'transaction-nodes', 'Max. number of accessed nodes per transaction'],
  ['memory', 'memory', 'Total Xenstore memory per domain (error level)'],
  ['node-size', 'node-size', 'Max. size of a node'],
  ['path-max', 'path-max', 'Max. length of a node path'],
  ['permissions', 'node-permissions', 'Max. number of permissions per node'],
]
const SOFT_QUOTAS: typeof HARD_QUOTAS = [
  ['memory', 'soft-memory', 'Total Xenstore memory per domain (warning level)'],
]

function none(args: readonly string[]): void {
  if (args.length > 0) throw new Refusal('EINVAL')
}

function one(args: readonly string[]): string {
  const [arg, ...more] = args
  if (arg === undefined || more.length > 0) throw new Refusal('EINVAL')
  return arg
}

const usageOf = (domain: Domain): [string, number][] => [
  ['nodes', domain.used('nodes')],
  ['watches', domain.used('watches')],
  ['transactions', domain.used('transactions')],
  ['outstanding', domain.used('outstanding')],
  ['memory', domain.used('memory')],
]

const quotaCommand =
  (quotas: typeof HARD_QUOTAS, other: Command['run']): Command['run'] =>
  (xenstored, args) => {
    if (args.length === 0) {
      return `Quota settings:\n${quotas.map(([shown, name, description]) => `${shown.padEnd(17)}: ${String(xenstored.quota[name]).padStart(8)} ${description}\n`).join('')}`
    }
    if (args[0] !== 'set') return other(xenstored, args)
    const [, shown, value] = args
    const found = quotas.find((quota) => quota[0] === shown)
    if (!found || value === undefined || args.length > 3 || atoi(value) < 1) {
      throw new Refusal('EINVAL')
    }
    // CONTROL changes existing domains' quotas too, as in 4.17. SET_QUOTA doesn't.
    for (const { quota } of [xenstored, ...xenstored.domains]) quota[found[1]] = atoi(value)
    return OK
  }

function domainUsage(xenstored: Server, args: readonly string[]): string {
  const domid = atoi(one(args)) >>> 0
  const domain = xenstored.domains.get(domid)
  if (!domain) throw new Refusal('ENOENT')
  return `Domain ${domid}:\n${usageOf(domain)
    .map(([name, value]) => `${name.padEnd(16)}: ${String(value).padStart(8)}\n`)
    .join('')}`
}

/**
 * Checks that every listed child exists.
 * @throws Refusal EIO if one doesn't
 */
function checkTree(store: Store, path: string): void {
  const node = store.get(path)
  if (!node) throw new Refusal('EIO')
  for (const name of childNames(node.children)) checkTree(store, childOf(path, name))
}

const commands: Readonly<Record<string, Command>> = {
  check: {
    parameters: '',
    run(xenstored, args) {
      none(args)
      checkTree(xenstored.store, '/')
      return OK
    },
  },
  log: {
    parameters: 'on|off',
    run(xenstored, args) {
      const state = one(args)
      if (state !== 'on' && state !== 'off') throw new Refusal('EINVAL')
      xenstored.isTracing = state === 'on'
      return OK
    },
  },
  memreport: {
    parameters: '',
    run(xenstored, args) {
      none(args)
      for (const domain of xenstored.domains) {
        xenstored.log(
          `domain ${domain.domid}: ${usageOf(domain)
            .map(([name, value]) => `${name} ${value}`)
            .join(', ')}`,
        )
      }
      return OK
    },
  },
  print: {
    parameters: '<string>',
    run(xenstored, args) {
      xenstored.log(`control: ${JSON.stringify(one(args))}`)
      return OK
    },
  },
  quota: { parameters: '[set <name> <val>|<domid>]', run: quotaCommand(HARD_QUOTAS, domainUsage) },
  'quota-soft': {
    parameters: '[set <name> <val>]',
    run: quotaCommand(SOFT_QUOTAS, () => {
      throw new Refusal('EINVAL')
    }),
  },
  help: {
    parameters: '',
    run(_, args) {
      none(args)
      return Object.entries(commands)
        .map(([name, { parameters }]) => `${name}\t${parameters}\n`)
        .join('')
    },
  },
}

export const controlRequests: Handlers = [
  [
    XS.CONTROL,
    {
      privileged: true,
      run: (r) => {
        const [name = '', ...args] = strings(r.payload)
        const command = Object.hasOwn(commands, name) ? commands[name] : undefined
        if (!command) throw new Refusal('EINVAL')
        r.reply(`${command.run(r.xenstored, args)}\0`)
      },
    },
  ],
]
