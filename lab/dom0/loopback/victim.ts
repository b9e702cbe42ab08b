/**
 * A process that maps a page and is killed: the kernel must notify the other side, since the
 * process can't.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { deepStrictEqual } from 'node:assert'
import type { Hypervisor } from '@xenkit/hypervisor'
import { openXen } from '@xenkit/xen'
import { check, soon } from '../tap.ts'
import { End } from './wire.ts'

export async function checkKilledProcess(hv: Hypervisor): Promise<void> {
  await check(
    'a process: killed by SIGKILL, its byte is cleared and its peer notified',
    async () => {
      using shared = hv.grants.share({ domid: hv.domid, pages: 1, writable: true })
      const end = new End()
      using binding = hv.evtchn.bindUnbound({ domid: hv.domid }, end.onEvent)
      shared.bytes.fill(1, 0, 3)
      const victim = spawn(
        process.execPath,
        [process.argv[1] ?? '', 'victim', String(shared.grefs[0]), String(binding.port)],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      )
      await soon('the start of the victim', once(victim.stdout, 'data'))
      // The victim's binding may have raised an event by itself, so forget events up to here.
      end.events = 0
      binding.unmask()
      victim.kill('SIGKILL')
      await end.reaches(1)
      deepStrictEqual([...shared.bytes.subarray(0, 3)], [1, 0, 1])
    },
  )
}

/** The victim process: maps the page and keeps it mapped until the process is killed. */
export async function beVictim(gref: number, port: number): Promise<void> {
  const hv = await openXen()
  const binding = hv.evtchn.bindInterdomain({ domid: hv.domid, port }, () => {})
  const mapped = hv.grants.map([{ domid: hv.domid, gref }], { writable: true })
  mapped.notifyOnUnmap({ clearByte: 1, port: binding.port })
  console.log('mapped')
}
