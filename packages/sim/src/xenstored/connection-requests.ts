/** Handlers of requests about watches and transactions, which belong to a connection. */
import { XENSTORE_SERVER_FEATURE, XS } from '@xenkit/wire'
import { atoi, oneString, strings } from './arguments.ts'
import { Refusal } from './refusal.ts'
import type { Handlers, Request } from './request.ts'

const OK = 'OK\0'

/**
 * Parses WATCH's third string: the number of levels below the path to report.
 * @throws Refusal EINVAL if the domain doesn't have the feature
 */
function depthOf({ domain }: Request, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const depth = atoi(text)
  if ((domain.features & XENSTORE_SERVER_FEATURE.WATCHDEPTH) === 0 || depth < 0) {
    throw new Refusal('EINVAL')
  }
  return depth
}

export const connectionRequests: Handlers = [
  [
    XS.WATCH,
    {
      global: true,
      run: (r) => {
        const [watched, token, depth, ...more] = strings(r.payload)
        if (watched === undefined || token === undefined || more.length > 0) {
          throw new Refusal('EINVAL')
        }
        const watch = r.connection.watch(watched, token, depthOf(r, depth))
        r.reply(OK)
        watch.notify(watch.path.slice(watch.prefix)) // every watch fires once when it is set
      },
    },
  ],
  [
    XS.UNWATCH,
    {
      global: true,
      run: (r) => {
        const [watched, token, ...more] = strings(r.payload)
        if (watched === undefined || token === undefined || more.length > 0) {
          throw new Refusal('EINVAL')
        }
        r.connection.unwatch(watched, token)
        r.reply(OK)
      },
    },
  ],
  [
    XS.RESET_WATCHES,
    {
      run: (r) => {
        r.connection.forget()
        r.reply(OK)
      },
    },
  ],
  [
    XS.TRANSACTION_START,
    {
      run: (r) => {
        if (r.transaction) throw new Refusal('EBUSY')
        r.reply(`${r.connection.beginTransaction()}\0`)
      },
    },
  ],
  [
    XS.TRANSACTION_END,
    {
      run: (r) => {
        const verdict = oneString(r.payload)
        if (verdict !== 'T' && verdict !== 'F') throw new Refusal('EINVAL')
        if (!r.transaction) throw new Refusal('ENOENT')
        r.connection.endTransaction(r.txId) // it ends whether or not it commits
        if (verdict === 'T') {
          r.transaction.commit((change) => r.xenstored.watches.fire(change, r.xenstored.store))
          r.xenstored.writeRate.charge(r.domain, 1)
        }
        r.reply(OK)
      },
    },
  ],
]
