/** Events of a network card, for `onEvent` of `serveVif`. */
import { deviceLog, type PrintLine } from '@xenkit/backend'
import type { RequestedCard } from '../requested-card.ts'
import type { VifStats } from './stats.ts'

/** A card that is being served, with its statistics. */
export interface ServedCard extends RequestedCard {
  readonly stats: VifStats
}

/**
 * An event of a card that `serveVif` serves.
 *
 * - `offered`: the card waits for its frontend.
 * - `connected`: its frontend uses it. `closed`: it no longer does.
 * - `changed`: its rate was changed, or a capture or mirror of it started or ended.
 * - `stalled`: the guest has posted no buffers for a minute while frames waited: the link's carrier
 *   is off. `recovered`: it posts buffers again.
 * - `removed`: it is gone for good.
 * - `failed`: it failed and is being closed.
 * - `declined`: it is left to other backends.
 * - `refused`: it can't take what a toolstack asked for, and stays as it is.
 */
export type VifEvent =
  | {
      readonly kind:
        | 'offered'
        | 'connected'
        | 'changed'
        | 'stalled'
        | 'recovered'
        | 'closed'
        | 'removed'
      readonly card: ServedCard
      readonly error?: undefined
    }
  | {
      readonly kind: 'failed' | 'declined' | 'refused'
      readonly card: ServedCard
      readonly error: unknown
    }

/**
 * Makes a listener for `onEvent` of `serveVif` that passes a line for each event to `print`. Within
 * a minute an error is printed once for each card, a state four times. Repetitions are counted.
 * Their number is printed with the first event after that minute, or when the card is removed.
 *
 * @param print prints a line; default: failures to stderr, other lines nowhere
 */
export const cardLog = (print?: PrintLine): ((event: VifEvent) => void) =>
  deviceLog<VifEvent>(
    {
      nameOf: ({ card }) => `${card.name} of domain ${card.frontendDomid}`,
      failures: { failed: '', declined: 'left to other backends: ', refused: 'not changed: ' },
    },
    print,
  )
