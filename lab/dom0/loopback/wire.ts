/** An event channel from this domain to itself, with access to both ends. */
import type { EvtchnBinding, Hypervisor } from '@xenkit/hypervisor'
import { soon } from '../tap.ts'

/** One end of the channel: counts its events and lets a check wait for them. */
export class End {
  events = 0
  #binding: EvtchnBinding | undefined
  #wake: () => void = () => {}

  get binding(): EvtchnBinding {
    if (!this.#binding) throw new Error('not bound')
    return this.#binding
  }

  set binding(binding: EvtchnBinding) {
    this.#binding = binding
  }

  readonly onEvent = (): void => {
    this.events++
    this.#wake()
  }

  /** Resolves once this end has received `count` events since the count was last set to 0. */
  async reaches(count: number): Promise<void> {
    while (this.events < count) {
      await soon(
        `event ${count} (there were ${this.events})`,
        new Promise<void>((resolve) => (this.#wake = resolve)),
      )
    }
  }
}

export interface Wire extends Disposable {
  readonly server: End
  readonly client: End
}

/** Opens a channel whose two ends are bound and unmasked, with no event pending. */
export async function openWire({ domid, evtchn }: Hypervisor): Promise<Wire> {
  const [server, client] = [new End(), new End()]
  server.binding = evtchn.bindUnbound({ domid }, server.onEvent)
  client.binding = evtchn.bindInterdomain({ domid, port: server.binding.port }, client.onEvent)
  // Binding to an unbound port raises an event on the new port, the client's: don't count it.
  await client.reaches(1)
  client.events = 0
  client.binding.unmask()
  server.binding.unmask()
  return {
    server,
    client,
    [Symbol.dispose]() {
      client.binding.close()
      server.binding.close()
    },
  }
}
