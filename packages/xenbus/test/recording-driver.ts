/**
 * A driver that does nothing but keep account of what it is asked for, and of what it should not
 * have been.
 */
import type { BackendConnection, BackendDevice, BackendDriver, NodeValues } from '../src/index.ts'

/** Shared by the drivers of servers that compete: a device's path, and who is connected to it. */
export class Ledger {
  readonly connected = new Map<string, RecordingDriver>()
  readonly violations: string[] = []
}

interface Hooks {
  offer?: (device: BackendDevice) => Promise<NodeValues | undefined>
  connect?: (device: BackendDevice) => Promise<void>
  close?: (device: BackendDevice) => Promise<void>
  /** Whether the frontend publishes what it was connected to, true by default. */
  isCurrent?: (device: BackendDevice) => Promise<boolean>
  /** Asked for what a connection publishes, each time. */
  nodes?: (device: BackendDevice) => NodeValues
}

export class RecordingDriver implements BackendDriver {
  /** `connect 1/0`: what was called, for which device of which domain. */
  readonly calls: string[] = []
  readonly devices = new Set<BackendDevice>()
  /** What happens besides; a test may exchange them at any time. */
  hooks: Hooks = {}
  readonly #ledger: Ledger

  constructor(ledger = new Ledger()) {
    this.#ledger = ledger
  }

  get violations(): readonly string[] {
    return [
      ...this.#ledger.violations,
      ...[...this.#ledger.connected.keys()].map((path) => `${path} was left connected`),
      ...[...this.devices].map(({ path }) => `${path} was never removed`),
    ]
  }

  async offer(device: BackendDevice): Promise<NodeValues | undefined> {
    this.#record('offer', device)
    this.devices.add(device)
    const nodes = this.hooks.offer ? await this.hooks.offer(device) : { 'feature-test': '1' }
    if (nodes === undefined) this.devices.delete(device)
    return nodes
  }

  async connect(device: BackendDevice): Promise<BackendConnection> {
    this.#record('connect', device)
    this.#expect(this.devices.has(device), 'connect without offer', device)
    await this.hooks.connect?.(device)
    this.#expect(!this.#ledger.connected.has(device.path), 'connect while connected', device)
    this.#ledger.connected.set(device.path, this)
    let closed = false
    const { hooks } = this
    return {
      get nodes() {
        return hooks.nodes?.(device) ?? { sectors: '8' }
      },
      isCurrent: async () => (await hooks.isCurrent?.(device)) ?? true,
      close: async () => {
        this.#record('close', device)
        this.#expect(
          !closed && this.#ledger.connected.get(device.path) === this,
          'close without connection',
          device,
        )
        closed = true
        try {
          await this.hooks.close?.(device)
        } finally {
          this.#ledger.connected.delete(device.path)
        }
      },
    }
  }

  removed(device: BackendDevice): void {
    this.#record('removed', device)
    this.#expect(this.devices.delete(device), 'removed without offer', device)
    this.#expect(
      this.#ledger.connected.get(device.path) !== this,
      'removed while connected',
      device,
    )
  }

  #record(call: string, { frontendDomid, devid }: BackendDevice): void {
    this.calls.push(`${call} ${frontendDomid}/${devid}`)
  }

  #expect(holds: boolean, text: string, device: BackendDevice): void {
    if (!holds) this.#ledger.violations.push(`${text}: ${device.path}`)
  }
}
