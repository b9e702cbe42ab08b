/**
 * A driver that serves nothing. It records its calls, and those that break the driver's contract.
 */
import type { BackendConnection, BackendDevice, BackendDriver, NodeValues } from '../src/index.ts'

/**
 * The connected devices, by path, with the driver that has connected. Competing servers share it,
 * to find a device that two of them connect.
 */
export class Ledger {
  readonly connected = new Map<string, RecordingDriver>()
  readonly violations: string[] = []
}

interface Hooks {
  offer?: (device: BackendDevice) => Promise<NodeValues | undefined>
  connect?: (device: BackendDevice) => Promise<void>
  close?: (device: BackendDevice) => Promise<void>
  /** Returns whether the frontend still publishes the rings it is connected by; true by default. */
  isCurrent?: (device: BackendDevice) => Promise<boolean>
  /** Returns the nodes that a connection publishes. Called whenever they are read. */
  nodes?: (device: BackendDevice) => NodeValues
}

export class RecordingDriver implements BackendDriver {
  /** All calls, such as `connect 1/0`: the call, the frontend's domid and the device's number. */
  readonly calls: string[] = []
  readonly devices = new Set<BackendDevice>()
  /** Functions that run within the driver's calls. A test may replace them at any time. */
  hooks: Hooks = {}
  /** Set by a test whose driver follows a frontend that changes its nodes. */
  reconfigured?: NonNullable<BackendDriver['reconfigured']>
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
