/**
 * The domain's end of its xenstore ring: a byte stream to xenstored. Follows
 * docs/misc/xenstore-ring.txt.
 *
 * The ring exists before and after its user, which may be a boot loader, a kernel before kexec, or
 * a program that died. A connection therefore starts and ends by requesting a reset: xenstored then
 * drops the earlier user's watches, transactions and replies. A xenstored without that feature,
 * such as the C one, is used from its present indices, and replies already in the ring are
 * discarded. Replies to the earlier user that it sends later can't be told from this user's.
 */
import { type ByteStream, type ByteStreamReceiver, XenstoreError } from '@xenkit/hypervisor'
import { XENSTORE_ERROR, XENSTORE_RECONNECT, XENSTORE_SERVER_FEATURE } from '@xenkit/wire'
import { ByteQueue } from './byte-queue.ts'
import { RingTurns, type Bind } from './ring-turns.ts'
import { XenstorePage, XenstoreRings } from './xenstore-page.ts'

/** One end of a xenstore ring. */
export interface XenstoreRingEnd {
  /** The page, which must stay mapped while the end is used. */
  readonly page: Uint8Array
  readonly bind: Bind
}

/** Most bytes of requests that may wait for room in the ring: some hundred thousand requests. */
const WAITING_MAX = 16 * 1024 * 1024

const NOTHING = new Uint8Array()

/**
 * Opens the one connection that a domain's xenstore ring carries. Written bytes wait until
 * xenstored has reset the ring, however long that takes, and then for room in it. The stream ends
 * when more than 16 MiB wait, when xenstored breaks the rules of the ring, or when it reports an
 * error.
 *
 * As a domain's xenstore port: `{ connect: async (receiver) => connectXenstoreRing({ page, bind },
 * receiver) }`
 *
 * @throws RangeError if `page` isn't a page
 * @throws the error of `bind`
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
  /** The ring's two directions; undefined until xenstored has reset the ring. */
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

  /**
   * Sends and receives as many bytes as the ring allows.
   * @returns the bytes that xenstored sent
   */
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
   * @returns undefined until xenstored has reset the ring; the rest of the page is meaningless
   *   until then
   */
  #attach(): XenstoreRings | undefined {
    if (this.#page.load('connection') === XENSTORE_RECONNECT) return undefined
    const rings = new XenstoreRings(this.#page, {
      reads: 'rsp',
      writes: 'req',
      waiting: this.#waiting,
      turns: this.#turns,
    })
    // Discards replies to an earlier user, which are still there if there was no reset.
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
   * Runs a step. If it throws, the stream ends with that error; the receiver is told
   * asynchronously, never within its own call.
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
  return new XenstoreError(`xenstored closed the ring: ${name}`, { errno: 'EIO', error: name })
}
