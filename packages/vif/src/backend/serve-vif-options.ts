/** What a program says to `serveVif`. */
import type { ServeOptions } from '@xenkit/backend'
import type { Link } from '@xenkit/frames'
import type { RequestedCard, WatchRequest } from '../requested-card.ts'
import type { VifEvent } from './vif-event.ts'

/** Options of `serveVif`. See `ServeOptions` for `xs`, `reservation`, `signal` and `abandonMs`. */
export interface ServeVifOptions extends ServeOptions {
  /**
   * The link to plug every card into, a switch say, or a function that chooses one for each card. A
   * card is plugged in when it is offered, and unplugged when it is removed; between, its carrier
   * says whether the guest uses it.
   *
   * If the function throws, its card is closed for good.
   */
  readonly link: Link | LinkFunction
  /** Most queues of a card, 1..8. Default 4. */
  readonly queues?: number
  /**
   * Starts and ends captures and mirrors of a card, when `watchVif` asks for it; `watchLink` lets a
   * program do that while the card is used. The toolstack gets the error that the function throws.
   * Return soon: the card's other changes wait, and its removal too. Default: refuses.
   */
  readonly watch?: (card: RequestedCard, wanted: WatchRequest) => void | Promise<void>
  /**
   * Called with each event. Default: `cardLog()`, which prints failures to stderr. An error that
   * the listener throws becomes an uncaught exception, and doesn't affect the card.
   */
  readonly onEvent?: (event: VifEvent) => void
}

/** A link function's answer for a card: a link, or `decline` to leave it to other backends. */
export type LinkAnswer = Link | 'decline'

/** Chooses the link of each card that a toolstack gives to this domain. */
export type LinkFunction = (card: RequestedCard) => LinkAnswer | Promise<LinkAnswer>
