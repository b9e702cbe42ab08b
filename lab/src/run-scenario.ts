/** Runs one scenario with its own machine and logs. */
import { mkdir, readFile, readdir, rm } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { type Figure, header, reportFigure } from './figure.ts'
import type { Image } from './image/image.ts'
import { output } from './paths.ts'
import type { Report } from './report.ts'
import type { Scenario } from './scenario.ts'
import { Session } from './session.ts'
import { type StackName, stacks } from './stack.ts'

/** Thrown by a failed check after it has been reported. */
class CheckFailed extends Error {}

export interface RunOptions {
  readonly on: StackName
  /** The image with the stack's Xen, dom0 and guests. */
  readonly image: Image
  readonly report: Report
}

/** @returns the figures that the scenario measured */
export async function runScenario(
  name: string,
  scenario: Scenario,
  { on, image, report }: RunOptions,
): Promise<readonly Figure[]> {
  const out = join(output, name, on)
  const stack = stacks[on]
  await rm(out, { recursive: true, force: true })
  await mkdir(out, { recursive: true })
  await using session = await Session.open({
    image,
    out,
    programs: scenario.programs,
    guests: stack.guests,
  })
  const check = async <T>(
    what: string,
    work: () => Promise<T>,
    lineOf: (result: T) => string = () => what,
  ): Promise<T> => {
    const begun = performance.now()
    try {
      const result = await session.watchingGuests(work)
      report.pass(lineOf(result), (performance.now() - begun) / 1000)
      return result
    } catch (error) {
      report.fail(what, messageOf(error))
      throw new CheckFailed(what, { cause: error })
    }
  }
  const failedBefore = report.failed
  const measured: Figure[] = []
  report.note(`${name} on ${on}: ${scenario.title}`)
  try {
    await scenario.run({
      stack,
      boot: ({ clock = 'wall' } = {}) =>
        check('Xen boots, dom0 is ready', () => session.boot(clock)),
      check,
      async row(what, work) {
        // Ignore the error, because `check` has reported it.
        await check(what, work, (said) => `${what} ${said}`).catch(() => {})
      },
      report: (what, passed) => (passed ? report.pass(what) : report.fail(what)),
      figures(figures) {
        if (measured.length === 0) report.note(`      ${header}`)
        measured.push(...figures)
        for (const figure of figures) reportFigure(figure, report)
      },
      note: (text) => report.note(text),
    })
  } catch (error) {
    if (!(error instanceof CheckFailed)) report.fail(name, messageOf(error))
  }
  if (report.failed > failedBefore) {
    await session.saveKernelLogs()
    await showLogs(out, report)
  }
  return measured
}

/** Prints the end of each log, and the path of the folder that has all logs. */
async function showLogs(out: string, report: Report): Promise<void> {
  const names = (await readdir(out, { recursive: true })).filter((name) => name.endsWith('.log'))
  for (const name of names.toSorted()) {
    const lines = (await readFile(join(out, name), 'utf8')).trim().split('\n').slice(-8)
    if (lines[0]) {
      report.note(
        `${name} ends with:\n${lines.map((line) => `  ${line.slice(0, 300)}`).join('\n')}`,
      )
    }
  }
  report.note(`all logs: ${relative(process.cwd(), out)}`)
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
