/** The life of domains, which the toolstack tells of. */
import { DOMID_SELF, XS } from '@xenkit/wire'
import { anyDomid, atoi, oneString, strings } from './arguments.ts'
import type { Domain } from './domain.ts'
import { homeOf } from './path.ts'
import { Refusal } from './refusal.ts'
import type { Handlers, Request } from './request.ts'

const OK = 'OK\0'

function introduced({ xenstored }: Request, domid: number): Domain {
  const domain = xenstored.introduced(domid)
  if (!domain) throw new Refusal('ENOENT')
  return domain
}

/** The domain that the payload names, which isn't domain 0. */
function guest(r: Request): Domain {
  const domid = anyDomid(oneString(r.payload))
  if (domid === 0) throw new Refusal('EINVAL')
  return introduced(r, domid)
}

export const domainRequests: Handlers = [
  [
    XS.INTRODUCE,
    {
      privileged: true,
      run: (r) => {
        const [domid, gfn, port] = strings(r.payload)
        if (domid === undefined || gfn === undefined || port === undefined || atoi(port) === 0) {
          throw new Refusal('EINVAL')
        }
        // Others have no page to talk over.
        if (!r.xenstored.domains.know(anyDomid(domid))) throw new Refusal('EINVAL')
        r.xenstored.introduceDomain(anyDomid(domid))
        r.reply(OK)
      },
    },
  ],
  [
    XS.RELEASE,
    {
      privileged: true,
      run: (r) => {
        r.xenstored.releaseDomain(guest(r).domid)
        r.reply(OK)
      },
    },
  ],
  // A domain here either lives or is gone: there is no shutdown to forget.
  [
    XS.RESUME,
    {
      privileged: true,
      run: (r) => {
        guest(r)
        r.reply(OK)
      },
    },
  ],
  [
    XS.SET_TARGET,
    {
      privileged: true,
      run: (r) => {
        const [domid, target] = strings(r.payload)
        if (domid === undefined || target === undefined) throw new Refusal('EINVAL')
        const domain = introduced(r, anyDomid(domid))
        domain.target = introduced(r, anyDomid(target)).domid
        r.reply(OK)
      },
    },
  ],
  [XS.GET_DOMAIN_PATH, { run: (r) => r.reply(`${homeOf(anyDomid(oneString(r.payload)))}\0`) }],
  [
    XS.IS_DOMAIN_INTRODUCED,
    {
      privileged: true,
      run: (r) => {
        const domid = anyDomid(oneString(r.payload))
        r.reply(domid === DOMID_SELF || r.xenstored.introduced(domid) ? 'T\0' : 'F\0')
      },
    },
  ],
]
