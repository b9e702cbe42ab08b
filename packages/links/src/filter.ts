/** `filterLink`: lets a function decide on each frame. */
import type { Frames, Link, LinkEnd } from '@xenkit/frames'
import { Batches } from './batches.ts'
import { type FrameDirection, layerOn } from './layer.ts'
import { Packet } from './packet.ts'

/**
 * Passes on the frames that a function accepts, and drops the others. Frames aren't copied.
 * @param accepts called for each frame. If it throws, the frame is dropped and its card fails.
 */
export function filterLink(base: Link, accepts: (packet: Packet) => boolean): Link {
  return layerOn(base, (card) => {
    const packet = new Packet()
    const batches = new Batches()
    const isAccepted = (frames: Frames, index: number, direction: FrameDirection): boolean => {
      packet.show(frames, index, direction)
      try {
        return accepts(packet)
      } catch (error) {
        card.fail(error)
        return false
      }
    }
    return {
      pass(frames, next, direction) {
        const kept = batches.take(frames.memory)
        for (let i = 0; i < frames.count; i++) {
          if (!isAccepted(frames, i, direction)) continue
          kept.addFrom(frames, i)
          if (kept.count === kept.capacity) sendAll(kept, next)
        }
        sendAll(kept, next)
        batches.give(kept)
      },
    }
  })
}

function sendAll(batch: Frames, to: LinkEnd): void {
  if (batch.count > 0) to.send(batch)
  batch.reset()
}
