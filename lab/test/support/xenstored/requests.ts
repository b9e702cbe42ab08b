/**
 * Generates requests of every kind, valid and invalid. The vocabulary is small, so that requests
 * affect each other.
 */
import { XENSTORE_PAYLOAD_MAX, XS, xsTypeName } from '@xenkit/wire'
import * as fc from 'fast-check'

export interface Request {
  readonly type: number
  /** The request's payload in latin1; `|` stands for NUL. */
  readonly payload: string
}

/** Formats a request for messages, with long runs of a character shortened. */
export const shown = ({ type, payload }: Request): string =>
  `${xsTypeName(type)} ${JSON.stringify(payload.replaceAll(/(.)\1{20,}/gs, (run, one: string) => `${one}{${run.length}}`))}`

type Payload = fc.Arbitrary<string>

const one = (...texts: string[]): Payload => fc.constantFrom(...texts)
const mostly = (usual: Payload, weight: number, ...others: Payload[]): Payload =>
  fc.oneof({ weight, arbitrary: usual }, ...others.map((arbitrary) => ({ weight: 1, arbitrary })))
const joined = (...parts: Payload[]): Payload => fc.tuple(...parts).map((texts) => texts.join('|'))
const ended = (...parts: Payload[]): Payload => joined(...parts, fc.constant(''))
/** Returns payloads of which some lack their last character, or have extra ones at the end. */
const strange = (payload: Payload): Payload =>
  mostly(
    payload,
    40,
    fc.tuple(payload, one('x', '|', 'x|', '||x')).map(([text, more]) => text + more),
    payload.map((text) => text.slice(0, -1)),
  )

/** Domids of requests; `%` stands for the client's own. Domain 9 never exists. */
const existing = one('0', '5', '6', '7', '%')
const named = mostly(existing, 12, fc.constant('9'))
const domid = mostly(
  named,
  6,
  one('', 'x', '-1', '5x', ' 5', '+6', '0x5', '05', '70000', '99999999999', '4294967301', '32752'),
)
const guest = one('5', '6', '7')

const long = (length: number): string => 'l'.repeat(length)
const usualPath = one(
  '/a',
  '/b',
  '/a/b',
  '/a/b/c',
  '/a/b/c/d',
  '/a/d',
  '/b/e',
  '/b/e/f',
  'x',
  'x/y',
  'x/y/z',
  'w',
  '/a/b',
  '/a/b/c',
  'x/y',
  '/local/domain/5',
  '/local/domain/5/x',
  '/local/domain/5/x/y',
  '/local/domain/6',
  '/local/domain/6/x',
  '/local/domain/%',
  '/local',
  '/tool/xenstored',
  '/',
)
const oddPath = one(
  '',
  '/a/',
  'x/',
  '//',
  '/a//b',
  '//a',
  '/a b',
  '/\xe9',
  '/a.b',
  '@releaseDomain',
  '@introduceDomain',
  '@foo',
  '@',
  '/@',
  '/a/@releaseDomain',
  '/-_@',
  '/0',
  `/${long(2047)}`,
  `/${long(2048)}`,
  `/local/domain/5/${long(2048)}`,
  `/local/domain/5/${long(2049)}`,
  `/local/domain/-5/${long(2048)}`,
  `/local/domain/123456/${long(2040)}`,
  long(2048),
  long(2049),
  `@${long(2047)}`,
  `@${long(2048)}`,
)
const value = fc.oneof(
  { weight: 6, arbitrary: one('', '1', '2', 'value') },
  {
    weight: 1,
    arbitrary: fc
      .uint8Array({ maxLength: 12 })
      .map((bytes) => Buffer.from(bytes).toString('latin1')),
  },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 1970, max: 2040 }).map((length) => 'v'.repeat(length)),
  },
  { weight: 1, arbitrary: fc.integer({ min: 20, max: 80 }).map((length) => 'v'.repeat(length)) },
)

const entryOf = (id: Payload): Payload =>
  fc.tuple(one('n', 'r', 'w', 'b'), id).map(([letter, of]) => letter + of)
const oddEntry = one(
  'x5',
  'n',
  '',
  '5',
  'N5',
  'n-1',
  'r0x5',
  'r010',
  'r 5',
  'r+5',
  'r5x',
  'r0x',
  'r99999999999',
  'n4294967301',
  'b32752',
)
const owner = mostly(
  entryOf(one('%', '%', '%', '0', '5', '6', '7')),
  20,
  entryOf(fc.constant('9')),
  oddEntry,
)
const acl = fc.array(mostly(entryOf(named), 25, oddEntry), { maxLength: 4 })
const permissions = fc.tuple(owner, acl).map(([first, others]) => [first, ...others].join('|'))
/**
 * Excludes giving `/` to a guest: xenstored 4.17 loses the whole store with `/` when the owner's
 * domain is destroyed.
 */
const keepsRoot = (payload: string): boolean =>
  !payload.startsWith('/|') || /^\/\|[nrwb][0%]\|/.test(payload)

/** Paths to watch. Excludes `@releaseDomain/DOMID`, which only later releases support. */
const watched = mostly(
  one(
    '/',
    '/a',
    '/a/b',
    '/a/b/c',
    'x',
    'x/y',
    '/b',
    '/local/domain/5',
    '/local/domain/5/x',
    '@releaseDomain',
    '@introduceDomain',
  ),
  6,
  usualPath,
  oddPath,
  one('@', '@a b', '@releaseDomain/x'),
)
const watch = ended(watched, mostly(one('t', 'u'), 6, one('', 't/u', '\x01\xff')))
/** Excludes WATCH requests with a third string, by which later releases limit the watch's depth. */
const hasNoDepth = (payload: string): boolean => payload.split('|').length !== 4

/** Returns the request with `%` replaced by the client's domid. */
export const by = (domidOfClient: number, { type, payload }: Request): Request => ({
  type,
  payload: payload.replaceAll('%', String(domidOfClient)),
})

const requests = (type: number, payload: Payload): fc.Arbitrary<Request> =>
  payload
    .filter(({ length }) => length <= XENSTORE_PAYLOAD_MAX)
    .map((text) => ({ type, payload: text }))

const nodeRequests = (path: Payload): fc.Arbitrary<Request> =>
  fc.oneof(
    { weight: 3, arbitrary: requests(XS.READ, strange(ended(path))) },
    { weight: 3, arbitrary: requests(XS.DIRECTORY, strange(ended(path))) },
    {
      weight: 2,
      arbitrary: requests(XS.DIRECTORY_PART, strange(ended(path, one('0', '2', '1', '-1', 'x')))),
    },
    { weight: 2, arbitrary: requests(XS.GET_PERMS, strange(ended(path))) },
    { weight: 4, arbitrary: requests(XS.MKDIR, strange(ended(path))) },
    { weight: 4, arbitrary: requests(XS.RM, strange(ended(path))) },
    { weight: 6, arbitrary: requests(XS.WRITE, strange(joined(path, value))) },
    {
      weight: 6,
      arbitrary: requests(XS.SET_PERMS, strange(ended(path, permissions)).filter(keepsRoot)),
    },
    {
      weight: 1,
      arbitrary: requests(
        XS.SET_PERMS,
        ended(one('@releaseDomain', '@introduceDomain'), permissions),
      ),
    },
  )

/** Requests that read or change a node, and may be part of a transaction. */
export const nodeRequest = nodeRequests(mostly(usualPath, 15, oddPath))
/** Few paths, so that most pairs of requests conflict. */
const closePath = one('/a', '/a/b', '/a/b', '/a/b/c', '/a/b/c', '/a/d')
export const closeNodeRequest = nodeRequests(closePath)
/** Requests that set permissions for a given domain. */
export const closePermissions = (domidNamed: number): fc.Arbitrary<Request> =>
  requests(
    XS.SET_PERMS,
    ended(closePath, one('n0', 'w0', 'r6'), entryOf(fc.constant(String(domidNamed)))),
  )

export const watchRequest: fc.Arbitrary<Request> = fc.oneof(
  { weight: 3, arbitrary: requests(XS.WATCH, strange(watch).filter(hasNoDepth)) },
  { weight: 2, arbitrary: requests(XS.UNWATCH, strange(watch)) },
)

const quota = (name: string, min: number, max: number): fc.Arbitrary<Request> =>
  requests(
    XS.CONTROL,
    fc.integer({ min, max }).map((limit) => `quota|set|${name}|${limit}|`),
  )
/** Quotas. Some values are so low that requests often reach them, others are seldom reached. */
const quotas = [
  quota('nodes', 2, 12),
  quota('watches', 1, 4),
  quota('transactions', 1, 3),
  quota('transaction-nodes', 3, 16),
  quota('node-size', 40, 200),
  quota('permissions', 1, 4),
]
export const quotaRequest: fc.Arbitrary<Request> = fc.oneof(...quotas, quota('path-max', 8, 30))
/** Requests that set some quotas at the start of a run. */
export const initialQuotas: fc.Arbitrary<Request[]> = fc
  .tuple(...quotas.map((arbitrary) => fc.option(arbitrary)))
  .map((chosen) => chosen.filter((request) => request !== null))

/** Requests about domains, connections and the server. */
export const domainRequest: fc.Arbitrary<Request> = fc.oneof(
  requests(XS.GET_DOMAIN_PATH, strange(ended(domid))),
  requests(XS.IS_DOMAIN_INTRODUCED, strange(ended(domid))),
  {
    weight: 2,
    arbitrary: requests(
      XS.INTRODUCE,
      strange(ended(domid, one('0', 'x'), mostly(fc.constant('1'), 6, one('0', 'x', '7x')))),
    ),
  },
  { weight: 2, arbitrary: requests(XS.RELEASE, strange(ended(domid))) },
  requests(XS.RESUME, strange(ended(domid))),
  requests(XS.SET_TARGET, strange(mostly(fc.constant('7|5|'), 3, ended(guest, named)))),
  requests(XS.RESET_WATCHES, one('|', '', 'x')),
  requests(XS.TRANSACTION_START, one('|', '', 'x')),
  requests(XS.TRANSACTION_END, one('T|', 'F|', 'T', '|')),
  // Requests of unknown types: 15 and 16 are sent by xenstored itself, and 20 was removed. 23 to 26
  // are left out, because later releases know them.
  fc.record({ type: fc.constantFrom(15, 16, 20, 27, 0xffff_ffff), payload: fc.constant('/|') }),
)
