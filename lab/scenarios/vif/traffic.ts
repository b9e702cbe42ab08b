/**
 * What a guest can do with a network card, whoever serves it. The scenarios `netback` and `vif` run
 * the same checks.
 */
import { ok, strictEqual } from 'node:assert'
import type { Guest } from '../../src/guest/guest.ts'

/** Port of `net-bench serve`. */
export const PORT = 7000

interface Transfer {
  readonly bytes: number
  readonly seconds: number
  readonly checksum: string
}

const MIB = 1 << 20

/** Number of echo requests that were answered, of `count`. */
export async function ping(guest: Guest, host: string, count = 3): Promise<string> {
  const said = await guest.run(`ping -c ${count} -i 0.2 -W 5 ${host} | grep transmitted`)
  ok(said.includes(` ${count} packets received`), said)
  return said.replace(', 0% packet loss', '')
}

/** TCP in both directions, whose checksums both sides compute and compare. */
export async function tcp(guest: Guest, host: string, mib = 8): Promise<string> {
  const transfer = async (operation: 'send' | 'receive'): Promise<string> => {
    const { bytes, seconds } = JSON.parse(
      await guest.run(`net-bench ${operation} ${host} ${PORT} ${mib * MIB}`, 120),
    ) as Transfer
    strictEqual(bytes, mib * MIB)
    return `${operation} ${((bytes * 8) / seconds / 1e6).toFixed(0)} Mbit/s`
  }
  return `${mib} MiB each way, checksums agree: ${await transfer('send')}, ${await transfer('receive')}`
}

/** UDP datagrams of all sizes up to a full frame, and of some sizes up to the largest. */
export async function udp(guest: Guest, host: string, mtu = 1500): Promise<string> {
  const headers = host.includes(':') ? 48 : 28
  const echo = async (from: number, to: number, step: number): Promise<number> => {
    const said = await guest.run(`net-bench datagrams ${host} ${PORT} ${from} ${to} ${step}`, 180)
    return (JSON.parse(said) as { sizes: number }).sizes
  }
  const whole = await echo(0, mtu - headers, 1)
  const fragmented = await echo(mtu - headers + 1, 65507, 1999)
  return `${whole} sizes of 0..${mtu - headers} bytes and ${fragmented} up to 65507 bytes come back`
}
