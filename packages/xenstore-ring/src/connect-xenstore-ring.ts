/**
 * The domain's end of its xenstore ring: a byte stream to xenstored. Follows
 * docs/misc/xenstore-ring.txt.
 *
 * The ring is there before its user and after it (a boot loader, the kernel before kexec, a program
 * that died). So a connection begins with a reset, and ends by asking for one: xenstored forgets
 * the watches, transactions and replies of the one before. A xenstored that doesn't offer that, as
 * the C one, is met where its indices are, and replies that lie there are thrown away; those which
 * it sends later can't be told from this user's.
 */
import { type ByteStream, type ByteStreamReceiver, XenstoreError } from '@xenkit/hypervisor'
import { XENSTORE_ERROR, XENSTORE_RECONNECT, XENSTORE_SERVER_FEATURE } from '@xenkit/wire'
import { ByteQueue } from './byte-queue.ts'
import { RingTurns, type Bind } from './ring-turns.ts'
import { XenstorePage, XenstoreRings } from './xenstore-page.ts'

/** One end of a xenstore ring. */
export interface XenstoreRingEnd {
  /** The page, for as long as the end is used. */
  readonly page: Uint8Array
  readonly bind: Bind
}

/** Bytes of requests that may wait for room in the ring: some hundred thousand. */
const WAITING_MAX = 16 * 1024 * 1024

const NOTHING = new Uint8Array()

/**
 * Opens the one connection that a domain's xenstore ring carries. What is written waits until
 * xenstored has reset the ring, however long that takes, and then for room in it. More than 16 MiB
 * may not wait: the stream ends. It ends too when xenstored breaks the rules of the ring or says
 * that it gave up.
 *
 * As the port of a domain: `{ connect: async (receiver) => connectXenstoreRing({ page, bind },
 * receiver) }`
 *
 * @throws RangeError if `page` isn't a page, or what `bind` throws
 */
export function connectXenstoreRing(
  { page, bind }: XenstoreRingEnd,
  receiver: ByteStreamReceiver,
): ByteStream {
  return new DomainEnd(new XenstorePage(page), bind, receiver)
}

class DomainEnd implements ByteStream {
  readonly #page: XenstorePage
  readonly #receiver: ByteStreamReceiver
  readonly #turns: RingTurns
  readonly #waiting = new ByteQueue()
  /** Undefined while the ring is being reset. */
  #rings: XenstoreRings | undefined
  #open = true

  constructor(page: XenstorePage, bind: Bind, receiver: ByteStreamReceiver) {
    this.#page = page
    this.#receiver = receiver
    this.#turns = new RingTurns(
      bind,
      () => this.#turn(),
      (error) => this.#lose(error),
    )
    this.#attempt(() => this.#askForReset())
    this.#turns.schedule()
  }

  write(bytes: Uint8Array): void {
    if (!this.#open) return
    this.#waiting.push(bytes)
    this.#attempt(() => {
      if (this.#rings && this.#rings.flush() > 0) this.#turns.notify()
      if (this.#waiting.length > WAITING_MAX) {
        throw new XenstoreError(`xenstored left ${this.#waiting.length} bytes of requests unread`, {
          errno: 'ENOBUFS',
        })
      }
    })
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#attempt(() => this.#askForReset())
    this.#turns.close()
  }

  #turn(): boolean {
    const bytes = this.#attempt(() => this.#exchange()) ?? NOTHING
    if (bytes.length === 0) return false
    this.#receiver.data(bytes)
    return true
  }

  /** @returns what has come from xenstored */
  #exchange(): Uint8Array {
    this.#rings ??= this.#attach()
    if (!this.#rings) return NOTHING
    const error = this.#page.load('error')
    if (error !== XENSTORE_ERROR.NONE && this.#offers(XENSTORE_SERVER_FEATURE.ERROR)) {
      throw gaveUp(error)
    }
    const sent = this.#rings.flush()
    const bytes = this.#rings.read()
    if (sent + bytes.length > 0) this.#turns.notify()
    return bytes
  }

  /**
   * @returns undefined while xenstored has yet to reset the ring: nothing else in the page counts
   * then
   */
  #attach(): XenstoreRings | undefined {
    if (this.#page.load('connection') === XENSTORE_RECONNECT) return undefined
    const rings = new XenstoreRings(this.#page, {
      reads: 'rsp',
      writes: 'req',
      waiting: this.#waiting,
      turns: this.#turns,
    })
    // Replies to an earlier user, where there was no reset.
    if (rings.read().length > 0) this.#turns.notify()
    return rings
  }

  #askForReset(): void {
    if (!this.#offers(XENSTORE_SERVER_FEATURE.RECONNECTION)) return
    this.#page.store('connection', XENSTORE_RECONNECT)
    this.#turns.notify()
  }

  #offers(feature: number): boolean {
    return (this.#page.load('server_features') & feature) !== 0
  }

  /**
   * What goes wrong ends the stream; the receiver is told of it later, not while it writes or
   * closes.
   */
  #attempt<T>(step: () => T): T | undefined {
    try {
      return step()
    } catch (error) {
      queueMicrotask(() => this.#lose(error))
      return undefined
    }
  }

  #lose(error: unknown): void {
    if (!this.#open) return
    this.close()
    this.#receiver.closed(error instanceof Error ? error : new Error(String(error)))
  }
}

const errorNames = new Map<number, string>(
  Object.entries(XENSTORE_ERROR).map(([name, error]) => [error, name]),
)

function gaveUp(error: number): XenstoreError {
  const name = errorNames.get(error) ?? String(error)
  return new XenstoreError(`xenstored gave up on the ring: ${name}`, { errno: 'EIO', error: name })
}
