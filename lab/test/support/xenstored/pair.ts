/**
 * Sends the same requests to Debian's xenstored (`real`) and the embedded one (`ours`). Any
 * difference is an error.
 */
import assert from 'node:assert/strict'
import { XS } from '@xenkit/wire'
import { XenstoredProcess } from '../../../src/xenstored/xenstored-process.ts'
import { RawClient } from './raw-client.ts'
import { type Request, shown } from './requests.ts'
import { OurSide, RealSide, type Side } from './sides.ts'

/** Names of the clients: two of domain 0, and one of each of three guests. */
export const CLIENTS = ['0', '0b', '5', '6', '7'] as const
export type ClientName = (typeof CLIENTS)[number]
export const GUESTS = [5, 6, 7] as const
export type Guest = (typeof GUESTS)[number]

const domidOf = (name: ClientName): number => Number.parseInt(name, 10)

interface Client {
  readonly real: RawClient
  readonly ours: RawClient
}

/**
 * Whether a differing answer of ours is what the real xenstored intends. The real one refuses
 * permissions of a special path with the errno of the last failed call, which the stub has set to
 * EINVAL.
 */
const isMeant = ({ type, payload }: Request, real: string, ours: string): boolean =>
  type === XS.SET_PERMS && payload.startsWith('@') && real === '!EINVAL|' && ours === '!EACCES|'

const distinct = (events: readonly string[]): string[] =>
  [
    ...new Set(events.filter((event) => !event.startsWith('@'))),
    ...events.filter((event) => event.startsWith('@')),
  ].toSorted()

export class Pair implements AsyncDisposable {
  readonly #real: RealSide
  readonly #ours: OurSide
  readonly #clients = new Map<ClientName, Client>()
  readonly #existing = new Set<number>()

  /** Starts both sides. The guests' domains exist, but none is introduced to xenstored. */
  static async start(): Promise<Pair> {
    const pair = new Pair(new RealSide(await XenstoredProcess.start()), new OurSide())
    for (const name of ['0', '0b'] as const) await pair.#connect(name)
    for (const domid of GUESTS) await pair.createDomain(domid)
    return pair
  }

  private constructor(real: RealSide, ours: OurSide) {
    this.#real = real
    this.#ours = ours
  }

  isConnected(name: ClientName): boolean {
    return this.#clients.has(name)
  }

  exists(domid: number): boolean {
    return this.#existing.has(domid)
  }

  /** Sends a request to both sides and fails if the answers differ. @returns the answer */
  async ask(name: ClientName, type: number, payload: string, txId = 0): Promise<string> {
    const { real, ours } = this.#client(name)
    const [theirAnswer, ourAnswer] = await Promise.all([
      real.ask(type, payload, txId),
      ours.ask(type, payload, txId),
    ])
    if (!isMeant({ type, payload }, theirAnswer, ourAnswer)) {
      assert.equal(ourAnswer, theirAnswer, `client ${name} asks ${shown({ type, payload })}`)
    }
    return theirAnswer
  }

  /**
   * Waits until all requests have taken effect, then compares the events that each client received.
   * (Events precede the answer to the client's last request.) After `one` request, both sides must
   * send the same events in the same order. After `several` at once, an equal event may be sent
   * once or several times, depending on how fast the client reads. So count and order are ignored,
   * except for special events, which come once per request.
   */
  async settle(after: 'one' | 'several' = 'one'): Promise<void> {
    const names = [...this.#clients.keys()]
    await Promise.all(names.map((name) => this.ask(name, XS.GET_DOMAIN_PATH, '0|')))
    for (const [name, { real, ours }] of this.#clients) {
      const [ourEvents, theirEvents] = [ours, real].map((client) =>
        after === 'one' ? client.takeEvents() : distinct(client.takeEvents()),
      )
      assert.deepEqual(ourEvents, theirEvents, `events of client ${name}`)
    }
  }

  async createDomain(domid: number): Promise<void> {
    for (const side of this.#sides) await side.createDomain(domid)
    this.#existing.add(domid)
  }

  async destroyDomain(domid: number): Promise<void> {
    for (const side of this.#sides) await side.destroyDomain(domid)
    this.#existing.delete(domid)
    await this.followIntroductions()
  }

  /**
   * Connects guests that were introduced since the last call, and disconnects those that were
   * released.
   */
  async followIntroductions(): Promise<void> {
    const answers = await Promise.all(
      GUESTS.map((domid) => this.ask('0', XS.IS_DOMAIN_INTRODUCED, `${domid}|`)),
    )
    for (const [i, domid] of GUESTS.entries()) {
      const name: ClientName = `${domid}`
      const isIntroduced = answers[i] === 'T|'
      if (isIntroduced && !this.isConnected(name)) await this.#connect(name)
      if (!isIntroduced) this.#disconnect(name)
    }
  }

  /** Compares the whole store as domain 0 sees it, and each guest's use of its quotas. */
  async compareStores(): Promise<void> {
    await this.ask('0', XS.CONTROL, 'quota|set|path-max|2048|')
    await this.#compareTree('/')
    for (const domid of [0, 9, ...GUESTS]) await this.compareUsage(domid)
  }

  /**
   * Compares a domain's use of its quotas, which CONTROL reports. For domain 0 only nodes are
   * compared, because the real xenstored doesn't count requests over sockets.
   */
  async compareUsage(domid: number): Promise<void> {
    const { real, ours } = this.#client('0')
    const usage = async (client: RawClient): Promise<string | undefined> => {
      const answer = await client.ask(XS.CONTROL, `quota|${domid}|`)
      return answer.startsWith('!')
        ? answer
        : (domid === 0 ? /nodes.*\n/ : /nodes[^]*/).exec(answer)?.[0]
    }
    assert.equal(await usage(ours), await usage(real), `usage of domain ${domid}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const side of this.#sides) await side.close()
  }

  /** Returns the log of the real xenstored. */
  log(): string {
    return this.#real.process.log()
  }

  get #sides(): readonly Side[] {
    return [this.#real, this.#ours]
  }

  #client(name: ClientName): Client {
    return this.#clients.get(name) ?? assert.fail(`client ${name} isn't connected`)
  }

  async #connect(name: ClientName): Promise<void> {
    const [real, ours] = await Promise.all([
      RawClient.connect(this.#real.port(domidOf(name))),
      RawClient.connect(this.#ours.port(domidOf(name))),
    ])
    this.#clients.set(name, { real, ours })
  }

  #disconnect(name: ClientName): void {
    const client = this.#clients.get(name)
    client?.real.close()
    client?.ours.close()
    this.#clients.delete(name)
  }

  async #compareTree(path: string): Promise<void> {
    const [, , children = ''] = await Promise.all(
      [XS.READ, XS.GET_PERMS, XS.DIRECTORY].map((type) => this.ask('0', type, `${path}|`)),
    )
    await this.ask('0', XS.DIRECTORY_PART, `${path}|0|`)
    await Promise.all(
      children
        .split('|')
        .slice(0, -1)
        .map((name) => this.#compareTree(`${path === '/' ? '' : path}/${name}`)),
    )
  }
}
