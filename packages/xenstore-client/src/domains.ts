/**
 * A toolstack's requests about domains, features and quotas. Only domain 0 may send them, unless a
 * comment says otherwise. Follows docs/misc/xenstore.txt. A xenstored that lacks one answers
 * ENOSYS.
 */
import { DOMID_MAX, expectInteger, UINT32_MAX } from '@xenkit/hypervisor'
import { XS, xsTypeName } from '@xenkit/wire'
import { malformed } from './errors.ts'
import { parseDecimal } from './parse.ts'
import { RequestView } from './requests.ts'
import { strings } from './text.ts'

/**
 * Requests about domains, features, quotas and the daemon. Each rejects with a RangeError for a
 * domid, number or string that can't be sent, and with a XenstoreError if xenstored refuses it.
 */
export class DomainRequests extends RequestView {
  /**
   * Returns the domain's home, `/local/domain/DOMID`, whether or not the domain exists. Any domain
   * may ask.
   */
  async getDomainPath(domid: number): Promise<string> {
    const [path = ''] = await this.#ask(XS.GET_DOMAIN_PATH, domid, [])
    return path
  }

  /**
   * Whether xenstored serves the domain, which it does from the domain's introduction to its end.
   */
  async isDomainIntroduced(domid: number): Promise<boolean> {
    const [answer] = await this.#ask(XS.IS_DOMAIN_INTRODUCED, domid, [])
    return answer === 'T'
  }

  /**
   * Introduces a domain: xenstored then serves its ring, which is the page of its grant reference
   * 1.
   * @param o.gfn frame number of that page, 0..2^31-1, for a xenstored that doesn't use the grant
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
    expectInteger('gfn', gfn, 0, 0x7fff_ffff) // sent as a signed 32-bit decimal
    expectInteger('port', port, 1, 0x7fff_ffff)
    await this.#ask(XS.INTRODUCE, domid, [gfn, port])
  }

  /** Makes xenstored stop serving a domain, which may still be running. */
  async releaseDomain(domid: number): Promise<void> {
    await this.#ask(XS.RELEASE, domid, [])
  }

  /**
   * Makes `@releaseDomain` fire again for a domain that was shut down and then resumed, for example
   * after a suspend.
   */
  async resumeDomain(domid: number): Promise<void> {
    await this.#ask(XS.RESUME, domid, [])
  }

  /** Gives a domain, such as a device model's stub domain, all rights of `target`. */
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
   * Reduces this connection to the rights of `domid`. Only old releases of oxenstored support it.
   */
  async restrict(domid: number): Promise<void> {
    await this.#ask(XS.RESTRICT, domid, [])
  }

  /**
   * Returns the features that xenstored supports for a domain: bits of XENSTORE_SERVER_FEATURE.
   * Needs Xen 4.22.
   * @param domid default: the domain that asks
   */
  async getFeatures(domid?: number): Promise<number> {
    return this.#number(XS.GET_FEATURE, await this.#ask(XS.GET_FEATURE, domid, []))
  }

  /**
   * Sets the features that a domain may use. Must precede its introduction: EBUSY afterwards. Needs
   * Xen 4.22.
   */
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

  /**
   * Returns the names of the quotas that xenstored has: `nodes`, `watches` and others. Needs Xen
   * 4.22.
   */
  async listQuotas(): Promise<string[]> {
    const [names = ''] = await this.#ask(XS.GET_QUOTA, undefined, [])
    return names.split(' ').filter((name) => name !== '')
  }

  /**
   * Returns a domain's quota, or without `domid` the default for new domains. 0 means no limit.
   * Needs Xen 4.22.
   */
  async getQuota({
    quota,
    domid,
  }: {
    readonly quota: string
    readonly domid?: number | undefined
  }): Promise<number> {
    return this.#number(XS.GET_QUOTA, await this.#ask(XS.GET_QUOTA, domid, [quota]))
  }

  /** Sets the quota that `getQuota` returns, 0..2^32-1. */
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
   * Sends a command to the daemon itself, such as `help`, `check` or `log`. Commands differ between
   * releases.
   */
  async control(command: string, ...parameters: string[]): Promise<string> {
    const answer = await this.#ask(XS.CONTROL, undefined, [command, ...parameters])
    return answer.join('\n')
  }

  /**
   * Sends a request whose payload is the domid, if given, and the other strings, each with a NUL.
   */
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
    if (value === undefined) throw malformed(type, answer, 'not a number')
    return value
  }
}
