/**
 * Waits until nodes have the values that a function looks for. Every node is watched before the
 * function reads it, so that no change is missed; the function runs again when one of them changes.
 * A watch fires once when it is set: a function that isn't satisfied at once always runs a second
 * time.
 */
import type { XsPermissions } from '@xenkit/wire'
import type { Connection } from './connection.ts'
import type { XenstoreReader } from './view.ts'
import { type ChangeListener, WatchRegistration } from './watch-registration.ts'

/** Options of `XenstoreClient.wait`. */
export interface WaitOptions {
  /** Ends the wait when it aborts: `wait` rejects with the signal's reason. */
  readonly signal?: AbortSignal
}

/** Runs `body` until it returns something other than undefined. See `XenstoreClient.wait`. */
export async function waitFor<T>(
  connection: Connection,
  view: XenstoreReader,
  body: (view: XenstoreReader) => Promise<T | undefined>,
  o: WaitOptions,
): Promise<T> {
  const nodes = new WatchedNodes(connection)
  const abort = (): void => nodes.wake()
  o.signal?.addEventListener('abort', abort)
  try {
    for (;;) {
      o.signal?.throwIfAborted()
      nodes.beginRun()
      const result = await body(new TrackingView(view, nodes))
      if (result !== undefined) return result
      if (!o.signal?.aborted) await nodes.change()
    }
  } finally {
    o.signal?.removeEventListener('abort', abort)
    await nodes.removeAll()
  }
}

/** The nodes that `body` has read, each with a watch. */
class WatchedNodes implements ChangeListener {
  readonly #connection: Connection
  readonly #watches = new Map<string, WatchRegistration>()
  readonly #readByThisRun = new Set<string>()
  #changed = false
  #end: { readonly error: unknown } | undefined
  #wake: (() => void) | undefined

  constructor(connection: Connection) {
    this.#connection = connection
  }

  beginRun(): void {
    this.#changed = false
    this.#readByThisRun.clear()
  }

  /**
   * Watches a node, unless it is watched already. The WATCH request is sent before any request that
   * the caller makes next.
   */
  async see(path: string): Promise<void> {
    this.#readByThisRun.add(path)
    let watch = this.#watches.get(path)
    if (!watch) {
      watch = new WatchRegistration(this.#connection, { path }, this)
      this.#watches.set(path, watch)
    }
    await watch.ready
  }

  /** Resolves once a node has changed since `body` last started, or `wake` was called. */
  async change(): Promise<void> {
    await this.#remove([...this.#watches.keys()].filter((path) => !this.#readByThisRun.has(path)))
    if (!this.#changed && !this.#end) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    if (this.#end) throw this.#end.error
  }

  wake(): void {
    this.#changed = true
    this.#wake?.()
  }

  async removeAll(): Promise<void> {
    await this.#remove([...this.#watches.keys()])
  }

  changed(): void {
    this.wake()
  }

  ended(error: unknown): void {
    this.#end = { error }
    this.#wake?.()
  }

  async #remove(paths: readonly string[]): Promise<void> {
    await Promise.all(
      paths.map((path) => {
        const watch = this.#watches.get(path)
        this.#watches.delete(path)
        return watch?.remove()
      }),
    )
  }
}

class TrackingView implements XenstoreReader {
  readonly #view: XenstoreReader
  readonly #nodes: WatchedNodes

  constructor(view: XenstoreReader, nodes: WatchedNodes) {
    this.#view = view
    this.#nodes = nodes
  }

  read(path: string): Promise<string> {
    return this.#track(path, () => this.#view.read(path))
  }

  readBytes(path: string): Promise<Uint8Array> {
    return this.#track(path, () => this.#view.readBytes(path))
  }

  readOptional(path: string): Promise<string | undefined> {
    return this.#track(path, () => this.#view.readOptional(path))
  }

  exists(path: string): Promise<boolean> {
    return this.#track(path, () => this.#view.exists(path))
  }

  list(path: string): Promise<string[]> {
    return this.#track(path, () => this.#view.list(path))
  }

  getPerms(path: string): Promise<XsPermissions> {
    return this.#track(path, () => this.#view.getPerms(path))
  }

  /** Sends the watch and the read in one write, the watch first. */
  async #track<T>(path: string, read: () => Promise<T>): Promise<T> {
    const [, value] = await Promise.all([this.#nodes.see(path), read()])
    return value
  }
}
