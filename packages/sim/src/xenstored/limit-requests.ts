/** Handlers of requests about features and quotas, which only releases after 4.17 have. */
import { XS } from '@xenkit/wire'
import { atoi, domidOf, strings } from './arguments.ts'
import { type Domain, FEATURES } from './domain.ts'
import { DEFAULT_QUOTA, isQuotaName, type QuotaName } from './quota.ts'
import { Refusal } from './refusal.ts'
import type { Handlers, Request } from './request.ts'

const OK = 'OK\0'
/** -1, which isn't a valid quota. */
const NO_QUOTA = 0xffff_ffff

function domainOf({ xenstored }: Request, text: string): Domain {
  const domid = domidOf(text)
  const domain = xenstored.domains.know(domid)
  if (!domain) throw new Refusal('ENOENT')
  return domain
}

function quotaName(text: string | undefined): QuotaName {
  if (text === undefined || !isQuotaName(text)) throw new Refusal('EINVAL')
  return text
}

export const limitRequests: Handlers = [
  [
    XS.GET_FEATURE,
    {
      run: (r) => {
        const [domid, ...more] = strings(r.payload)
        if (domid !== undefined && !r.domain.isPrivileged) throw new Refusal('EACCES')
        if (more.length > 0) throw new Refusal('EINVAL')
        r.reply(`${(domid === undefined ? r.domain : domainOf(r, domid)).features}\0`)
      },
    },
  ],
  [
    XS.SET_FEATURE,
    {
      privileged: true,
      run: (r) => {
        const [domid, features, ...more] = strings(r.payload)
        if (domid === undefined || features === undefined || more.length > 0) {
          throw new Refusal('EINVAL')
        }
        const domain = domainOf(r, domid)
        if (domain.isIntroduced) throw new Refusal('EBUSY')
        if ((atoi(features) & ~FEATURES) !== 0) throw new Refusal('EINVAL')
        domain.features = atoi(features)
        r.reply(OK)
      },
    },
  ],
  [
    XS.GET_QUOTA,
    {
      privileged: true,
      run: (r) => {
        const args = strings(r.payload)
        if (args.length > 2) throw new Refusal('EINVAL')
        const [domid] = args
        if (domid === undefined) return r.reply(`${Object.keys(DEFAULT_QUOTA).join(' ')}\0`)
        const { quota } = args.length === 2 ? domainOf(r, domid) : r.xenstored
        r.reply(`${quota[quotaName(args.at(-1))]}\0`)
      },
    },
  ],
  [
    XS.SET_QUOTA,
    {
      privileged: true,
      run: (r) => {
        const args = strings(r.payload)
        const [domid, name] = args
        const value = atoi(args.at(-1) ?? '') >>> 0
        if (domid === undefined || name === undefined || args.length > 3) {
          throw new Refusal('EINVAL')
        }
        const { quota } = args.length === 3 ? domainOf(r, domid) : r.xenstored
        const quotaToSet = quotaName(args.at(-2))
        if (value === NO_QUOTA) throw new Refusal('EINVAL')
        quota[quotaToSet] = value
        r.reply(OK)
      },
    },
  ],
]
