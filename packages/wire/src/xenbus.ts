/**
 * States of a split device, which each half writes to its `state` node. Follows
 * xen/include/public/io/xenbus.h.
 */

/** Values of a `state` node. */
export const XenbusState = {
  /** Never written to a node: stands for a node that is missing or holds an unknown value. */
  Unknown: 0,
  Initialising: 1,
  /**
   * Early initialisation is complete. The device waits for the other half's nodes or a hotplug
   * script.
   */
  InitWait: 2,
  /** All nodes are published. The device waits for the other half to connect. */
  Initialised: 3,
  Connected: 4,
  /** Closing after an error or an unplug. */
  Closing: 5,
  Closed: 6,
  Reconfiguring: 7,
  Reconfigured: 8,
} as const

/** One of the states of a split device. */
export type XenbusState = (typeof XenbusState)[keyof typeof XenbusState]

const names = new Map<number, string>(
  Object.entries(XenbusState).map(([name, state]) => [state, name]),
)

/** Returns `Connected` for 4, or the number itself if it isn't a known state. */
export const xenbusStateName = (state: number): string => names.get(state) ?? String(state)
