/** Handlers of the toolstack's requests about domains. */
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

/** Returns the domain that the payload names, which mustn't be domain 0. */
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
        // Only a domain that exists has a page for a connection.
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
  // RESUME changes nothing: a simulated domain is never shut down without being destroyed.
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
