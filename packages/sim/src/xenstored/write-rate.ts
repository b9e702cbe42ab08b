/**
 * Limits guests' writes while a transaction is open, as C xenstored does (`wrl_` in domain.c). Each
 * such write can make the transaction fail, and a guest that never pauses could keep domain 0 from
 * ever committing. Domain 0 isn't limited.
 *
 * Every domain earns credit with time, and each write costs 1. Credit beyond what a domain can save
 * goes to a common reserve. A domain without credit takes from the reserve. If that is empty too,
 * the domain's next requests wait until it has earned what it owes.
 */
import type { Domain } from './domain.ts'

/** Writes per millisecond, over all domains. */
const RATE = 200 / 1000
/** Writes for which a domain can save credit. */
const BURST = 10
const RESERVE_MAX = 1000
/**
 * Lower limit of the reserve: a new domain starts with a burst even from an empty reserve, and so
 * do five at once.
 */
const RESERVE_MIN = -5 * BURST

interface Account {
  credit: number
  /** Set while the domain's requests wait for credit. */
  timer: ReturnType<typeof setTimeout> | undefined
  wasLogged: boolean
}

/** Accounts of all domains. */
export class WriteRate {
  readonly #accounts = new Map<Domain, Account>()
  readonly #log: (line: string) => void
  #reserve = 0
  /** Time in ms up to which domains were given credit. */
  #paid = performance.now()

  constructor(log: (line: string) => void) {
    this.#log = log
  }

  add(domain: Domain): void {
    this.#pay()
    const credit = Math.min(BURST, this.#reserve - RESERVE_MIN)
    this.#reserve -= credit
    this.#accounts.set(domain, { credit, timer: undefined, wasLogged: false })
  }

  remove(domain: Domain): void {
    const account = this.#accounts.get(domain)
    if (!account) return
    clearTimeout(account.timer)
    this.#accounts.delete(domain)
    this.#reserve += Math.max(0, Math.min(account.credit, BURST - this.#reserve))
  }

  /** Whether the domain's requests must wait. */
  isExceededBy(domain: Domain): boolean {
    return (this.#accounts.get(domain)?.credit ?? 0) < 0
  }

  /** Charges a domain for writes, if any open transaction may fail because of them. */
  charge(domain: Domain, writes: number): void {
    const account = this.#accounts.get(domain)
    if (!account || domain.isPrivileged || writes === 0 || !this.#mayConflict) return
    this.#pay()
    account.credit -= writes
    this.#balance(account)
    if (account.credit >= 0) return
    this.#wait(domain, account)
    if (account.wasLogged) return
    account.wasLogged = true
    this.#log(`domain ${domain.domid} writes too fast while transactions are open, and has to wait`)
  }

  get #mayConflict(): boolean {
    return [...this.#accounts.keys()].some((domain) => domain.used('transactions') > 0)
  }

  #wait(domain: Domain, account: Account): void {
    const ms = (-account.credit * this.#accounts.size) / RATE
    account.timer ??= setTimeout(() => {
      account.timer = undefined
      this.#pay()
      if (account.credit < 0) this.#wait(domain, account)
      else for (const connection of domain.connections) connection.wake()
    }, Math.ceil(ms)).unref()
  }

  /** Gives every domain its share of credit for the time since the last call. */
  #pay(): void {
    const now = performance.now()
    const share = ((now - this.#paid) * RATE) / this.#accounts.size
    this.#paid = now
    for (const account of this.#accounts.values()) {
      account.credit += share
      this.#balance(account)
    }
  }

  #balance(account: Account): void {
    const taken = Math.max(0, Math.min(-account.credit, this.#reserve))
    account.credit += taken
    this.#reserve -= taken
    const surplus = Math.max(0, account.credit - BURST)
    account.credit -= surplus
    this.#reserve += Math.max(0, Math.min(surplus, RESERVE_MAX - this.#reserve))
  }
}
