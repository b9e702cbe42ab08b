/** A switch with cards in it. */
import { type PortOptions, type Switch, type SwitchPort, openSwitch } from '../../src/index.ts'
import { TestCard } from './test-card.ts'

export interface Network {
  readonly sw: Switch
  readonly ports: SwitchPort[]
  readonly cards: TestCard[]
}

/** Opens a switch with a card in a port of each of these options. */
export async function network(...options: readonly PortOptions[]): Promise<Network> {
  const sw = openSwitch({ ageingMs: 1000 })
  const ports = options.map((it) => sw.port(it))
  const cards = await Promise.all(ports.map((port) => new TestCard().plugInto(port)))
  return { sw, ports, cards }
}
