/**
 * What netback makes of a transmit ring's slots, written down from the rules and not from our code:
 * one slot after another, as objects.
 */
import { NETIF_RSP, NETTXF, XEN_NETIF_EXTRA_TYPE, netif } from '@xenkit/wire'

type Part = ReturnType<typeof netif.tx.request.decode>

/** A part of a frame: bytes of a granted page. */
export interface ModelPart {
  readonly gref: number
  readonly offset: number
  readonly size: number
}

export interface ModelResult {
  /** Frames that are passed on. */
  readonly frames: ModelPart[][]
  /** "id:status" of each slot, in ring order; none is certain once the ring is broken. */
  readonly answers: string[]
  /** Whether the card is closed. */
  broken: boolean
}

/** @param grefs those of pages that can be copied */
export function netback(slots: readonly Uint8Array[], grefs: readonly number[]): ModelResult {
  const result: ModelResult = { frames: [], answers: [], broken: false }
  const { OKAY, ERROR, NULL } = NETIF_RSP
  let next = 0
  const part = (): Part | undefined => {
    const slot = slots[next++]
    return slot && netif.tx.request.decode(slot)
  }
  const breaks = (): ModelResult => ({ ...result, broken: true })

  while (next < slots.length) {
    const first = part()
    if (!first) return result
    const extras = new Map<number, Uint8Array>()
    let extraCount = 0
    for (let more = (first.flags & NETTXF.extra_info) !== 0; more; extraCount++) {
      const slot = slots[next++]
      const [type = 0, flags = 0] = slot ?? []
      if (!slot || type === 0 || type > 5) return breaks()
      extras.set(type, slot)
      more = (flags & 1) === 1
    }
    const answer = (status: number, ids: readonly number[]): void => {
      const nulls = Array.from({ length: extraCount }, () => `0:${NULL}`)
      const [head, ...tail] = ids.map((id) => `${id}:${status}`)
      result.answers.push(head ?? '', ...nulls, ...tail)
    }
    // A packet for the list of multicast addresses is a dummy. The list isn't full in these tests.
    if (extras.has(XEN_NETIF_EXTRA_TYPE.MCAST_ADD) || extras.has(XEN_NETIF_EXTRA_TYPE.MCAST_DEL)) {
      answer(OKAY, [first.id])
      continue
    }
    const others: Part[] = []
    let left = first.size
    let dropped = false
    for (let more = (first.flags & NETTXF.more_data) !== 0; more;) {
      const other = part()
      if (!other || others.length === 20) return breaks()
      if (others.length >= 18 || other.size > left) dropped = true
      left -= other.size
      if (other.offset + other.size > 4096) return breaks()
      more = (other.flags & NETTXF.more_data) !== 0
      others.push(other)
    }
    const ids = [first, ...others].map(({ id }) => id)
    if (dropped || first.size < 14) {
      answer(ERROR, ids)
      continue
    }
    if (first.offset + left > 4096) return breaks()
    const gso = extras.get(XEN_NETIF_EXTRA_TYPE.GSO)
    if (gso) {
      const { size, type } = netif.gso.decode(gso.subarray(2))
      if (size === 0 || (type !== 1 && type !== 2)) return breaks()
    }
    // The guest's pages hold no headers, so what needs them is dropped.
    const needsHeaders = gso !== undefined || (first.flags & NETTXF.csum_blank) !== 0
    const frame = [{ ...first, size: left }, ...others].filter(({ size }) => size > 0)
    const isCopied = frame.every(({ gref }) => grefs.includes(gref))
    if (needsHeaders || !isCopied) answer(ERROR, ids)
    else {
      result.frames.push(frame)
      answer(OKAY, ids)
    }
  }
  return result
}
