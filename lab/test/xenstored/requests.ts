/** Requests of every kind, from few enough words that they meet, and from what isn't right. */
import { XS } from '@xenkit/wire'
import * as fc from 'fast-check'

export interface Request {
  readonly type: number
  /** `|` stands for NUL. */
  readonly payload: string
}

const DOMIDS = ['0', '5', '6', '7', '9']

const ordinaryPath = fc.constantFrom(
  '/a', '/b', '/a/b', '/a/b/c', '/a/b/c/d', '/a/d', '/b/e', '/b/e/f', 'x', 'x/y', 'x/y/z', 'w',
  '/local/domain/5', '/local/domain/5/x', '/local/domain/5/x/y', '/local/domain/6', '/local/domain/6/x', '/local/domain/7/w', '/local', '/tool', '/tool/xenstored', '/',
)
const oddPath = fc.constantFrom(
  '', '/a/', 'x/', '//', '/a//b', '//a', '/a b', '/\xe9', '/a.b', '@releaseDomain', '@introduceDomain', '@foo', '@', '/@', '/a/@releaseDomain', '/-_@', '/0',
  `/${'l'.repeat(2047)}`, `/${'l'.repeat(2048)}`, `/local/domain/5/${'l'.repeat(2048)}`, `/local/domain/5/${'l'.repeat(2049)}`, `/local/domain/123456/${'l'.repeat(2040)}`,
  'l'.repeat(2048), 'l'.repeat(2049), `@${'l'.repeat(2047)}`, `@${'l'.repeat(2048)}`,
)
const path = fc.oneof({ weight: 12, arbitrary: ordinaryPath }, { weight: 1, arbitrary: oddPath })

const value = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('', '1', '2', 'value') },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes).toString('latin1')) },
  { weight: 1, arbitrary: fc.integer({ min: 1980, max: 2050 }).map((length) => 'v'.repeat(length)) },
)

const ordinaryEntry = fc.tuple(fc.constantFrom('n', 'r', 'w', 'b'), fc.constantFrom(...DOMIDS)).map(([letter, domid]) => letter + domid)
const oddEntry = fc.constantFrom('x5', 'n', '', '5', 'N5', 'n-1', 'r0x5', 'r010', 'r 5', 'r+5', 'r5x', 'r99999999999', 'n4294967301')
const entry = fc.oneof({ weight: 25, arbitrary: ordinaryEntry }, { weight: 1, arbitrary: oddEntry })
const permissions = fc.array(entry, { minLength: 1, maxLength: 6 }).map((entries) => entries.join('|'))

const watchedPath = fc.oneof({ weight: 8, arbitrary: path }, { weight: 1, arbitrary: fc.constantFrom('@releaseDomain', '@introduceDomain', '@releaseDomain', '@introduceDomain/5', '@', '@a b') })
const token = fc.constantFrom('t', 'u', '', 't/u', '\x01\xff')
const watch = fc.tuple(watchedPath, token).map(([watched, name]) => `${watched}|${name}|`)

/** With what is missing or too much. */
const strange = (payload: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.oneof({ weight: 30, arbitrary: payload }, { weight: 1, arbitrary: fc.tuple(payload, fc.constantFrom('x', '|', 'x|', '||x')).map(([text, more]) => text + more) }, { weight: 1, arbitrary: payload.map((text) => text.slice(0, -1)) })

const requests = (types: readonly number[], payload: fc.Arbitrary<string>): fc.Arbitrary<Request> => fc.record({ type: fc.constantFrom(...types), payload })

const pathAlone = path.map((text) => `${text}|`)
const domid = fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...DOMIDS) }, { weight: 1, arbitrary: fc.constantFrom('', 'x', '-1', '5x', ' 5', '+5', '0x5', '05', '70000', '99999999999', '4294967301', '32752') })

export const request: fc.Arbitrary<Request> = fc.oneof(
  { weight: 8, arbitrary: requests([XS.READ, XS.DIRECTORY, XS.GET_PERMS], pathAlone) },
  { weight: 6, arbitrary: requests([XS.MKDIR, XS.RM], pathAlone) },
  { weight: 5, arbitrary: requests([XS.WRITE], fc.tuple(path, value).map((parts) => parts.join('|'))) },
  { weight: 4, arbitrary: requests([XS.SET_PERMS], strange(fc.tuple(path, permissions).map((parts) => `${parts.join('|')}|`))) },
  { weight: 2, arbitrary: requests([XS.SET_PERMS], permissions.map((entries) => `@releaseDomain|${entries}|`)) },
  { weight: 3, arbitrary: requests([XS.WATCH], strange(watch)) },
  { weight: 1, arbitrary: requests([XS.UNWATCH], strange(watch)) },
  { weight: 1, arbitrary: requests([XS.GET_DOMAIN_PATH, XS.IS_DOMAIN_INTRODUCED], domid.map((text) => `${text}|`)) },
  { weight: 1, arbitrary: requests([XS.INTRODUCE], fc.tuple(domid, fc.constantFrom('1', '1', '1', '0', 'x', '7x')).map(([id, port]) => `${id}|0|${port}|`)) },
  { weight: 1, arbitrary: requests([XS.RELEASE], domid.map((text) => `${text}|`)) },
)

/** Payloads of one string that isn't one. Their answer is some error: which one, is left to what xenstored happened to do before. */
