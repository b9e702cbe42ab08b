/**
 * Changes that a toolstack requests of a served device by writing nodes. The toolstack may wait for
 * an answer.
 */
import type { XenstoreClient } from '@xenkit/xenstore-client'
import { lenient } from './node-access.ts'
import { answersTo, backendDeviceNodes } from './nodes.ts'

/** Notices when the toolstack changes one of a device's nodes. */
export class Wishes {
  readonly #xs: XenstoreClient
  readonly #path: string
  readonly #names: readonly string[]
  /** The nodes' values at the last call of `changed`, as JSON. */
  #seen = ''

  /**
   * @param path the device's own directory
   * @param changeable names of the nodes that the toolstack may change
   */
  constructor(xs: XenstoreClient, path: string, changeable: readonly string[]) {
    this.#xs = xs
    this.#path = path
    this.#names = [...changeable, 'xenkit-request']
  }

  /** Reads the nodes. @returns whether a node has changed since the last call */
  async changed(): Promise<boolean> {
    const read = this.#names.map((name) => this.#xs.readOptional(`${this.#path}/${name}`))
    const now = JSON.stringify(await Promise.all(read))
    const changed = now !== this.#seen
    this.#seen = now
    return changed
  }

  /** Makes the next `changed` return true, because the current request has no answer yet. */
  forget(): void {
    this.#seen = ''
  }

  /** Returns the id of the request that waits for an answer, or undefined if there is none. */
  async request(): Promise<string | undefined> {
    const [request, result = ''] = await Promise.all([
      lenient(backendDeviceNodes.readNode(this.#xs, this.#path, 'xenkit-request'), undefined),
      lenient(backendDeviceNodes.readNode(this.#xs, this.#path, 'xenkit-result'), undefined),
    ])
    return request === undefined || answersTo(result, request) ? undefined : request
  }
}
