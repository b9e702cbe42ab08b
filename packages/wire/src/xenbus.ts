/**
 * States of a split device, as each half writes them to its `state` node. Follows
 * xen/include/public/io/xenbus.h.
 */

export const XenbusState = {
  /** Not a state that is written: the node is missing, or holds something else. */
  Unknown: 0,
  Initialising: 1,
  /** Early initialisation is done; waits for what the other half or a hotplug script has to say. */
  InitWait: 2,
  /** Everything is published; waits for the other half to connect. */
  Initialised: 3,
  Connected: 4,
  /** Being closed, for an error or an unplug. */
  Closing: 5,
  Closed: 6,
  Reconfiguring: 7,
  Reconfigured: 8,
} as const

export type XenbusState = (typeof XenbusState)[keyof typeof XenbusState]

const names = new Map<number, string>(
  Object.entries(XenbusState).map(([name, state]) => [state, name]),
)

/** `Connected` for 4; the number itself for what is no state. */
export const xenbusStateName = (state: number): string => names.get(state) ?? String(state)
