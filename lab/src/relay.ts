/** Relays the results of programs in dom0 that run their own checks, printed by lab/dom0/tap.ts. */
import { ok } from 'node:assert'
import type { Outcome } from './dom0/remote-process.ts'
import type { Lab } from './scenario.ts'

/** Waits until the program ends and reports the results of its checks. */
export async function relay(
  { check, report }: Lab,
  command: string,
  running: Promise<Outcome>,
): Promise<void> {
  const { stdout } = await check(`"${command}" runs to its end in dom0`, async () => {
    const outcome = await running
    ok(
      outcome.stdout.endsWith('# end\n'),
      `it ended with ${outcome.status}: ${outcome.stdout}${outcome.stderr}`,
    )
    return outcome
  })
  for (const [, verdict, what = ''] of stdout.matchAll(/^(ok|not ok) - (.*)$/gm)) {
    report(what, verdict === 'ok')
  }
}
