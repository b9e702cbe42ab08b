/** Programs in dom0 that make checks of their own, which lab/dom0/tap.ts writes as lines. */
import { ok } from 'node:assert'
import type { Outcome } from './dom0/remote-process.ts'
import type { Lab } from './scenario.ts'

/** Waits for the program's end and reports what it checked. */
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
