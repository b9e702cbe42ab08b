/** One xenstored of each kind, asked the same: whatever differs is an error. */
import assert from 'node:assert/strict'
import { XS, xsTypeName } from '@xenkit/wire'
import { RawClient } from './raw-client.ts'
import { OurSide, RealSide, type Side } from './sides.ts'
import { XenstoredProcess } from '../../src/xenstored/xenstored-process.ts'

/** Two of domain 0's, and three of guests. */
export const CLIENTS = ['0', '0b', '5', '6', '7'] as const
export type ClientName = (typeof CLIENTS)[number]
export const GUESTS = [5, 6, 7] as const

const domidOf = (name: ClientName): number => Number.parseInt(name, 10)

interface Client {
  readonly real: RawClient
  readonly ours: RawClient
}

export class Pair implements AsyncDisposable {
  readonly #real: RealSide
  readonly #ours: OurSide
  readonly #clients = new Map<ClientName, Client>()
  readonly #existing = new Set<number>()
  /** Requests that both were asked. */
  asked = 0

  /** Guests exist; none is introduced. */
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

  /** @returns the answer that both gave */
  async ask(name: ClientName, type: number, payload: string, txId = 0): Promise<string> {
    const client = this.#clients.get(name)
    if (!client) throw new RangeError(`client ${name} isn't connected`)
    this.asked++
    const [real, ours] = await Promise.all([client.real.ask(type, payload, txId), client.ours.ask(type, payload, txId)])
    assert.equal(ours, real, `client ${name} asks ${xsTypeName(type)} "${payload}"`)
    return real
  }

  /**
   * Waits until all that was asked has had its effects, and compares the events that each client was sent:
   * they came before the answer to what it asked last.
   */
  async settle(): Promise<void> {
    const names = [...this.#clients.keys()]
    await Promise.all(names.map((name) => this.ask(name, XS.GET_DOMAIN_PATH, '0|')))
    for (const [name, { real, ours }] of this.#clients) assert.deepEqual(ours.takeEvents(), real.takeEvents(), `events of client ${name}`)
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

  /** Connects the guests that have been introduced meanwhile, and drops those that were released. */
  async followIntroductions(): Promise<void> {
    for (const domid of GUESTS) {
      const name: ClientName = `${domid}`
      const isIntroduced = (await this.ask('0', XS.IS_DOMAIN_INTRODUCED, `${domid}|`)) === 'T|'
      if (isIntroduced && !this.isConnected(name)) await this.#connect(name)
      if (!isIntroduced) this.#disconnect(name)
    }
  }

  /** The whole store as domain 0 sees it. */
  async compareStores(path = '/'): Promise<void> {
    await this.ask('0', XS.READ, `${path}|`)
    await this.ask('0', XS.GET_PERMS, `${path}|`)
    const children = (await this.ask('0', XS.DIRECTORY, `${path}|`)).split('|').slice(0, -1)
    for (const name of children) await this.compareStores(`${path === '/' ? '' : path}/${name}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const side of this.#sides) await side.close()
  }

  /** What the real one complained of. */
  log(): string {
    return this.#real.process.log()
  }

  get #sides(): readonly Side[] {
    return [this.#real, this.#ours]
  }

  async #connect(name: ClientName): Promise<void> {
    const [real, ours] = await Promise.all([RawClient.connect(this.#real.port(domidOf(name))), RawClient.connect(this.#ours.port(domidOf(name)))])
    this.#clients.set(name, { real, ours })
  }

  #disconnect(name: ClientName): void {
    const client = this.#clients.get(name)
    client?.real.close()
    client?.ours.close()
    this.#clients.delete(name)
  }
}
