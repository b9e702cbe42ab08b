/**
 * What a toolstack wants of a device that is served: nodes may change, and an answer be asked for.
 */
import type { XenstoreClient } from '@xenkit/xenstore-client'
import { lenient } from './node-access.ts'
import { answersTo, backendDeviceNodes } from './nodes.ts'

export class Wishes {
  readonly #xs: XenstoreClient
  readonly #path: string
  readonly #names: readonly string[]
  /** What the nodes held at the last look. */
  #seen = ''

  /**
   * @param path the device's own directory
   * @param changeable names of nodes in it
   */
  constructor(xs: XenstoreClient, path: string, changeable: readonly string[]) {
    this.#xs = xs
    this.#path = path
    this.#names = [...changeable, 'xenkit-request']
  }

  /** Looks at the nodes. @returns whether one has changed since the last look */
  async changed(): Promise<boolean> {
    const read = this.#names.map((name) => this.#xs.readOptional(`${this.#path}/${name}`))
    const now = JSON.stringify(await Promise.all(read))
    const changed = now !== this.#seen
    this.#seen = now
    return changed
  }

  /** The nodes count as changed at the next look: what they ask for wasn't answered. */
  forget(): void {
    this.#seen = ''
  }

  /** Id of the request that waits for an answer. */
  async request(): Promise<string | undefined> {
    const [request, result = ''] = await Promise.all([
      lenient(backendDeviceNodes.readNode(this.#xs, this.#path, 'xenkit-request'), undefined),
      lenient(backendDeviceNodes.readNode(this.#xs, this.#path, 'xenkit-result'), undefined),
    ])
    return request === undefined || answersTo(result, request) ? undefined : request
  }
}
