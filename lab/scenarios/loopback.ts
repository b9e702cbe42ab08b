/** The hypervisor adapter against dom0 itself, which is both sides of every grant and event channel. */
import { ok } from 'node:assert'
import type { Lab } from '../src/scenario.ts'

export const title = 'grants, copies, unmap notification and event channels of the real Xen, dom0 with itself'
export const programs = { loopback: 'lab/dom0/loopback/main.ts' }

export async function run({ boot, check, report }: Lab): Promise<void> {
  const dom0 = await boot()
  const relay = async (command: string): Promise<void> => {
    const { stdout } = await check(`"${command}" runs to its end in dom0`, async () => {
      const outcome = await dom0.attempt(command, 120)
      ok(outcome.stdout.endsWith('# end\n'), `it ended with ${outcome.status}: ${outcome.stdout}${outcome.stderr}`)
      return outcome
    })
    for (const [, verdict, what = ''] of stdout.matchAll(/^(ok|not ok) - (.*)$/gm)) report(what, verdict === 'ok')
  }
  await relay('loopback')
  // Without the socket that xenstored listens on, the kernel's device is what is left.
  await dom0.run('mv /run/xenstored/socket /run/xenstored/hidden')
  await relay('loopback xenbus-device')
  await dom0.run('mv /run/xenstored/hidden /run/xenstored/socket')
}
