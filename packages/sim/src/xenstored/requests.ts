/** What each request does: one entry per message type (docs/misc/xenstore.txt). A type that isn't here answers ENOSYS. */
import { formatXsPermissions, parseXsPermissions, XS } from '@xenkit/wire'
import type { Connection } from './connection.ts'
import type { Xenstored } from './index.ts'
import { latin1 } from './latin1.ts'
import { homeOf, resolvePath } from './path.ts'
import { Refusal } from './refusal.ts'
import type { Transaction } from './transaction.ts'
import { lookUp, mkdir, type Requester, rm, setPerms, write } from './tree-operations.ts'

export interface Request extends Requester {
  readonly connection: Connection
  readonly xenstored: Xenstored
  readonly txId: number
  readonly transaction: Transaction | undefined
  readonly payload: Uint8Array
  reply(payload: string | Uint8Array): void
}

interface Handler {
  /** Only domain 0 may ask. */
  readonly privileged?: true
  /** Takes no part in a transaction: `tx_id` is ignored. */
  readonly global?: true
  run(request: Request): void
}

const OK = 'OK\0'
const EVTCHN_MAX = 0xffff_ffff

/** The NUL-terminated strings; what follows the last NUL isn't one. */
const strings = (payload: Uint8Array): string[] => latin1(payload).split('\0').slice(0, -1)

/** The payload as exactly one NUL-terminated string. */
function oneString(payload: Uint8Array): string {
  const nul = payload.indexOf(0)
  if (nul < 0 || nul !== payload.length - 1) throw new Refusal('EINVAL')
  return latin1(payload.subarray(0, nul))
}

const path = ({ payload, domid }: Request): string => resolvePath(oneString(payload), domid)

function decimal(text: string | undefined, max: number): number {
  if (text === undefined || !/^\d{1,10}$/.test(text) || Number(text) > max) throw new Refusal('EINVAL')
  return Number(text)
}

const domidOf = (text: string | undefined): number => decimal(text, 65535)

export const handlers: ReadonlyMap<number, Handler> = new Map<number, Handler>([
  [XS.READ, { run: (r) => r.reply(lookUp(r, path(r), 'read').value) }],
  [XS.DIRECTORY, { run: (r) => r.reply([...lookUp(r, path(r), 'read').children].map((name) => `${name}\0`).join('')) }],
  [XS.WRITE, {
    run: (r) => {
      const nul = r.payload.indexOf(0)
      if (nul < 0) throw new Refusal('EINVAL')
      write(r, resolvePath(latin1(r.payload.subarray(0, nul)), r.domid), r.payload.slice(nul + 1))
      r.reply(OK)
    },
  }],
  [XS.MKDIR, { run: (r) => { mkdir(r, path(r)); r.reply(OK) } }],
  [XS.RM, { run: (r) => { rm(r, path(r)); r.reply(OK) } }],
  [XS.GET_PERMS, { run: (r) => r.reply(formatXsPermissions(lookUp(r, resolvePath(oneString(r.payload), r.domid, 'special'), 'read').perms)) }],
  [XS.SET_PERMS, {
    run: (r) => {
      const [node = '', ...entries] = strings(r.payload)
      const perms = parseXsPermissions(entries)
      if (!perms) throw new Refusal('EINVAL')
      setPerms(r, resolvePath(node, r.domid, 'special'), perms)
      r.reply(OK)
    },
  }],
  [XS.WATCH, {
    global: true,
    run: (r) => {
      const [watched, token, depth, ...more] = strings(r.payload)
      if (watched === undefined || token === undefined || more.length > 0) throw new Refusal('EINVAL')
      const watch = r.connection.watch(watched, token, depth === undefined ? undefined : decimal(depth, 4096))
      r.reply(OK)
      watch.notify(watch.path.slice(watch.prefix)) // every watch fires once when it is set
    },
  }],
  [XS.UNWATCH, {
    global: true,
    run: (r) => {
      const [watched, token, ...more] = strings(r.payload)
      if (watched === undefined || token === undefined || more.length > 0) throw new Refusal('EINVAL')
      r.connection.unwatch(watched, token)
      r.reply(OK)
    },
  }],
  [XS.TRANSACTION_START, {
    run: (r) => {
      if (r.transaction) throw new Refusal('EBUSY')
      r.reply(`${r.connection.beginTransaction()}\0`)
    },
  }],
  [XS.TRANSACTION_END, {
    run: (r) => {
      const verdict = oneString(r.payload)
      if (verdict !== 'T' && verdict !== 'F') throw new Refusal('EINVAL')
      if (!r.transaction) throw new Refusal('ENOENT')
      r.connection.endTransaction(r.txId) // it is over whether or not it commits
      if (verdict === 'T') for (const change of r.transaction.commit()) r.xenstored.watches.fire(change, r.xenstored.store)
      r.reply(OK)
    },
  }],
  [XS.GET_DOMAIN_PATH, { run: (r) => r.reply(`${homeOf(domidOf(oneString(r.payload)))}\0`) }],
  [XS.IS_DOMAIN_INTRODUCED, { privileged: true, run: (r) => r.reply(r.xenstored.isIntroduced(domidOf(oneString(r.payload))) ? 'T\0' : 'F\0') }],
  [XS.INTRODUCE, {
    privileged: true,
    run: (r) => {
      const [domid, , evtchn] = strings(r.payload)
      if (decimal(evtchn, EVTCHN_MAX) === 0) throw new Refusal('EINVAL')
      r.xenstored.introduceDomain(domidOf(domid))
      r.reply(OK)
    },
  }],
  [XS.RELEASE, {
    privileged: true,
    run: (r) => {
      const domid = domidOf(oneString(r.payload))
      if (domid === 0) throw new Refusal('EINVAL')
      if (!r.xenstored.isIntroduced(domid)) throw new Refusal('ENOENT')
      r.xenstored.releaseDomain(domid)
      r.reply(OK)
    },
  }],
])
