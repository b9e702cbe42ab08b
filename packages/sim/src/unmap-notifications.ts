/**
 * What the hypervisor does when a mapping or a share ends, however it ends. Callers hold the
 * machine lock. As in Linux's gntdev, first the byte is cleared, then the event is sent. Until then
 * the port stays open even if its binding is closed, so that no other binding gets its number.
 */
import { expectInteger, GrantError, PAGE_SIZE, type UnmapNotify } from '@xenkit/hypervisor'
import type { EventChannels } from './event-channels.ts'
import { type MachineState, ownersOf } from './machine-state.ts'

/** A table whose rows have unmap notifications: frames for shares, the maptrack for mappings. */
export interface Notifying {
  readonly rows: number
  get(row: number, field: 'owner' | 'clearByte' | 'notifyPort'): number
  set(row: number, field: 'clearByte' | 'notifyPort', value: number): void
}

export const EINVAL = 22

/**
 * Checks a notification's byte.
 * @throws RangeError if it isn't within the pages
 */
export function expectNotify(notify: UnmapNotify, byteLength: number): void {
  if (notify.clearByte !== undefined) {
    expectInteger('clearByte', notify.clearByte, 0, byteLength - 1)
  }
}

/** Unmap notifications of all mappings and shares. */
export class UnmapNotifications {
  readonly #state: MachineState
  readonly #events: EventChannels

  constructor(state: MachineState, events: EventChannels) {
    this.#state = state
    this.#events = events
  }

  /**
   * Sets or replaces the notification of a table's row.
   * @throws GrantError if the port isn't open in the domain
   */
  set(
    table: Notifying,
    row: number,
    o: { readonly domid: number; readonly frame: number; readonly notify: UnmapNotify },
  ): void {
    const { clearByte, port } = o.notify
    if (port !== undefined && !this.#events.isOpen(o.domid, port)) {
      throw new GrantError(
        `cannot notify port ${port} of domain ${o.domid} on unmap: EINVAL, it isn't open`,
        { status: -EINVAL, domid: o.domid, port },
      )
    }
    const former = table.get(row, 'notifyPort')
    if (port !== undefined) this.#events.hold(o.domid, port)
    table.set(row, 'clearByte', clearByte === undefined ? 0 : o.frame * PAGE_SIZE + clearByte + 1)
    table.set(row, 'notifyPort', port ?? 0)
    // Release the former port only after holding the new one, because both may be the same port.
    if (former !== 0) this.#events.release(o.domid, former)
  }

  isSet(table: Notifying, row: number): boolean {
    return table.get(row, 'clearByte') !== 0 || table.get(row, 'notifyPort') !== 0
  }

  fire(table: Notifying, row: number): void {
    const clearByte = table.get(row, 'clearByte')
    const port = table.get(row, 'notifyPort')
    if (clearByte !== 0) Atomics.store(this.#state.memory, clearByte - 1, 0)
    table.set(row, 'clearByte', 0)
    table.set(row, 'notifyPort', 0)
    if (port === 0) return
    const domid = table.get(row, 'owner') - 1
    this.#events.send(domid, port)
    this.#events.release(domid, port)
  }

  fireAllOf(domid: number): void {
    for (const table of [this.#state.maptrack, this.#state.frames]) {
      for (const [row, owner] of ownersOf(table)) if (owner === domid) this.fire(table, row)
    }
  }
}
