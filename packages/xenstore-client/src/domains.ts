/**
 * What a toolstack asks of xenstored: about domains, features and quotas. Only domain 0 may, save
 * where it says otherwise. Follows docs/misc/xenstore.txt; what a xenstored lacks is ENOSYS.
 */
import { DOMID_MAX, expectInteger, UINT32_MAX } from '@xenkit/hypervisor'
import { XS, xsTypeName } from '@xenkit/wire'
import { malformed } from './errors.ts'
import { parseDecimal } from './parse.ts'
import { RequestView } from './requests.ts'
import { strings } from './text.ts'

export class DomainRequests extends RequestView {
  /**
   * The domain's home, `/local/domain/DOMID`. Says nothing about whether it exists. Any domain may
   * ask.
   */
  async getDomainPath(domid: number): Promise<string> {
    const [path = ''] = await this.#ask(XS.GET_DOMAIN_PATH, domid, [])
    return path
  }

  /** Whether xenstored serves the domain: from its creation to its end. */
  async isDomainIntroduced(domid: number): Promise<boolean> {
    const [answer] = await this.#ask(XS.IS_DOMAIN_INTRODUCED, domid, [])
    return answer === 'T'
  }

  /**
   * Lets xenstored serve a domain, over the page that it granted by reference 1.
   * @param o.gfn that page's number, 0..2^31-1: xenstoreds that don't use the grant map it
   * @param o.port the domain's unbound event channel, 1..2^31-1
   */
  async introduceDomain({
    domid,
    gfn,
    port,
  }: {
    readonly domid: number
    readonly gfn: number
    readonly port: number
  }): Promise<void> {
    expectInteger('gfn', gfn, 0, 0x7fff_ffff) // a signed decimal, as 32 bits
    expectInteger('port', port, 1, 0x7fff_ffff)
    await this.#ask(XS.INTRODUCE, domid, [gfn, port])
  }

  /** Makes xenstored let go of a domain, which needn't be at its end. */
  async releaseDomain(domid: number): Promise<void> {
    await this.#ask(XS.RELEASE, domid, [])
  }

  /**
   * Lets `@releaseDomain` fire once more for a domain that was shut down and goes on, after a
   * suspend for example.
   */
  async resumeDomain(domid: number): Promise<void> {
    await this.#ask(XS.RESUME, domid, [])
  }

  /** Gives a domain, a device model's stub domain for example, all rights of another one. */
  async setTarget({
    domid,
    target,
  }: {
    readonly domid: number
    readonly target: number
  }): Promise<void> {
    expectInteger('target', target, 0, DOMID_MAX)
    await this.#ask(XS.SET_TARGET, domid, [target])
  }

  /**
   * Leaves this connection no rights but those of a domain. Old releases of oxenstored alone have
   * it.
   */
  async restrict(domid: number): Promise<void> {
    await this.#ask(XS.RESTRICT, domid, [])
  }

  /**
   * What xenstored supports for a domain, default the one that asks: bits of
   * XENSTORE_SERVER_FEATURE. Xen 4.22.
   */
  async getFeatures(domid?: number): Promise<number> {
    return this.#number(XS.GET_FEATURE, await this.#ask(XS.GET_FEATURE, domid, []))
  }

  /** Before the domain is introduced: EBUSY afterwards. Xen 4.22. */
  async setFeatures({
    domid,
    features,
  }: {
    readonly domid: number
    readonly features: number
  }): Promise<void> {
    expectInteger('features', features, 0, UINT32_MAX)
    await this.#ask(XS.SET_FEATURE, domid, [features])
  }

  /** Names of the quotas that xenstored has: `nodes`, `watches` and others. Xen 4.22. */
  async listQuotas(): Promise<string[]> {
    const [names = ''] = await this.#ask(XS.GET_QUOTA, undefined, [])
    return names.split(' ').filter((name) => name !== '')
  }

  /** A domain's quota, or without a domid what new domains get. 0 is none. Xen 4.22. */
  async getQuota({
    quota,
    domid,
  }: {
    readonly quota: string
    readonly domid?: number | undefined
  }): Promise<number> {
    return this.#number(XS.GET_QUOTA, await this.#ask(XS.GET_QUOTA, domid, [quota]))
  }

  /** Sets what `getQuota` gives. */
  async setQuota({
    quota,
    value,
    domid,
  }: {
    readonly quota: string
    readonly value: number
    readonly domid?: number | undefined
  }): Promise<void> {
    expectInteger('value', value, 0, UINT32_MAX)
    await this.#ask(XS.SET_QUOTA, domid, [quota, value])
  }

  /**
   * A command to the daemon itself, such as `help`, `check` or `log`; which there are differs from
   * release to release.
   */
  async control(command: string, ...parameters: string[]): Promise<string> {
    const answer = await this.#ask(XS.CONTROL, undefined, [command, ...parameters])
    return answer.join('\n')
  }

  /** Sends the domid, where there is one, and the rest as a string each. */
  async #ask(
    type: number,
    domid: number | undefined,
    rest: readonly (number | string)[],
  ): Promise<string[]> {
    if (domid !== undefined) expectInteger('domid', domid, 0, DOMID_MAX)
    const given = domid === undefined ? rest : [domid, ...rest]
    for (const one of given) {
      if (typeof one === 'string' && one.includes('\0')) {
        throw new RangeError(
          `${xsTypeName(type)} expected strings without NUL, got ${JSON.stringify(one.slice(0, 64))}`,
        )
      }
    }
    return this.connection.request(
      { type, subject: given.join(' '), head: given.map((one) => `${one}\0`).join('') },
      strings,
    )
  }

  #number(type: number, [answer = '']: readonly string[]): number {
    const value = parseDecimal(answer, { max: UINT32_MAX })
    if (value === undefined) throw malformed(type, answer, 'no number')
    return value
  }
}
