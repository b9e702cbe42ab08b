/** Node operations as requests on a connection, inside a transaction or outside. */
import { XenstoreError } from '@xenkit/hypervisor'
import {
  formatXsPermissions,
  parseXsPermissions,
  XS,
  type XsPermissions,
  xsPathFault,
  xsTypeName,
  xsWatchPathFault,
} from '@xenkit/wire'
import type { Connection, TransactionScope } from './connection.ts'
import { listDirectory } from './directory.ts'
import { isRefusal } from './errors.ts'
import { strings, text } from './text.ts'
import type { XenstoreView } from './view.ts'

const ignore = (): void => {}
/** Requests that accept special paths: they say who may watch `@introduceDomain` and the like. */
const ASKED_OF_SPECIALS: ReadonlySet<number> = new Set([XS.GET_PERMS, XS.SET_PERMS])

/** A `XenstoreView` over a connection. */
export class RequestView implements XenstoreView {
  protected readonly connection: Connection
  readonly #transaction: TransactionScope | undefined

  constructor(connection: Connection, transaction?: TransactionScope) {
    this.connection = connection
    this.#transaction = transaction
  }

  read(path: string): Promise<string> {
    return this.#ask(XS.READ, path, text)
  }

  readBytes(path: string): Promise<Uint8Array> {
    return this.#ask(XS.READ, path, (payload) => payload.slice())
  }

  readOptional(path: string): Promise<string | undefined> {
    return this.read(path).catch(absent)
  }

  async exists(path: string): Promise<boolean> {
    return (await this.readBytes(path).catch(absent)) !== undefined
  }

  list(path: string): Promise<string[]> {
    return listDirectory(path, (type, decode, more) => this.#ask(type, path, decode, more))
  }

  getPerms(path: string): Promise<XsPermissions> {
    return this.#ask(XS.GET_PERMS, path, strings).then((entries) => {
      const permissions = parseXsPermissions(entries)
      if (!permissions) {
        throw new XenstoreError(
          `xenstore GET_PERMS "${path}": ${JSON.stringify(entries)} are not permissions`,
          { errno: 'EIO', entries },
        )
      }
      return permissions
    })
  }

  write(path: string, value: string | Uint8Array): Promise<void> {
    return typeof value === 'string'
      ? this.#ask(XS.WRITE, path, ignore, value)
      : this.#ask(XS.WRITE, path, ignore, '', value)
  }

  mkdir(path: string): Promise<void> {
    return this.#ask(XS.MKDIR, path, ignore)
  }

  rm(path: string): Promise<void> {
    return this.#ask(XS.RM, path, ignore).catch(absent)
  }

  setPerms(path: string, permissions: XsPermissions): Promise<void> {
    return this.#ask(XS.SET_PERMS, path, ignore, formatXsPermissions(permissions))
  }

  async #ask<T>(
    type: number,
    path: string,
    decode: (payload: Uint8Array) => T,
    more = '',
    data?: Uint8Array,
  ): Promise<T> {
    const fault = ASKED_OF_SPECIALS.has(type) ? xsWatchPathFault(path) : xsPathFault(path)
    if (fault) throw new RangeError(`"path" ${JSON.stringify(path.slice(0, 64))} ${fault}`)
    // Refuse, because the id of an ended transaction may belong to another transaction by now.
    if (this.#transaction?.over) {
      throw new TypeError(
        `the transaction is over: await ${xsTypeName(type)} of "${path}" within its body`,
      )
    }
    return this.connection.request(
      {
        type,
        transaction: this.#transaction,
        subject: path,
        head: `${path}\0${more}`,
        ...(data && { data }),
      },
      decode,
    )
  }
}

function absent(error: unknown): undefined {
  if (!isRefusal(error, 'ENOENT')) throw error
}
