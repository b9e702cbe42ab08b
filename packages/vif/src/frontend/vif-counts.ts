/** Counters of a network card, since it was opened. */
export interface VifCounts {
  sentFrames: number
  sentBytes: number
  /** Frames sent that the backend answered with an error. */
  sendErrors: number
  /** Frames sent that the backend says it dropped. */
  sendDropped: number
  /** Frames that `send` dropped, because the backend doesn't take such ones. */
  refused: number
  receivedFrames: number
  receivedBytes: number
  /** Frames received with an error, or malformed. */
  receiveErrors: number
  /** Received frames that an iteration dropped, because its queue was full. */
  overrun: number
}

/** Counters at 0. */
export const zeroCounts = (): VifCounts => ({
  sentFrames: 0,
  sentBytes: 0,
  sendErrors: 0,
  sendDropped: 0,
  refused: 0,
  receivedFrames: 0,
  receivedBytes: 0,
  receiveErrors: 0,
  overrun: 0,
})
