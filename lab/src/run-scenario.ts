/** Runs one scenario: a machine of its own, its checks, its logs. */
import { mkdtemp, mkdir, readFile, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { rmSync } from 'node:fs'
import { atExit } from './at-exit.ts'
import { within } from './deadline.ts'
import { Agent } from './dom0/agent.ts'
import { Dom0 } from './dom0/dom0.ts'
import type { Image } from './image/image.ts'
import { output } from './paths.ts'
import { bundlePrograms } from './programs.ts'
import { Machine } from './qemu.ts'
import type { Report } from './report.ts'
import type { Scenario } from './scenario.ts'

const BOOT_SECONDS = 180
const LIFE_SECONDS = 600

/** Thrown by a failed check, which has been reported. */
class CheckFailed extends Error {}

export async function runScenario(name: string, scenario: Scenario, image: Image, report: Report): Promise<void> {
  const out = join(output, name)
  await rm(out, { recursive: true, force: true })
  await mkdir(out, { recursive: true })
  // A path of a unix socket is at most 107 bytes long: a checkout may lie deeper than that.
  const work = await mkdtemp(join(tmpdir(), 'xenkit-lab-'))
  atExit(() => rmSync(work, { recursive: true, force: true }))

  report.note(`${name}: ${scenario.title}`)
  let machine: Machine | undefined
  const check = async <T>(what: string, action: () => Promise<T>): Promise<T> => {
    const begun = performance.now()
    try {
      const result = await action()
      report.pass(what, (performance.now() - begun) / 1000)
      return result
    } catch (error) {
      report.fail(what, messageOf(error))
      throw new CheckFailed(what, { cause: error })
    }
  }
  try {
    await scenario.run({
      boot: ({ clock = 'wall' } = {}) =>
        check('Xen boots, dom0 is ready', async () => {
          const programs = join(work, 'programs')
          await bundlePrograms(scenario.programs, programs)
          const agentSocket = join(work, 'agent')
          const agent = await Agent.listen(agentSocket, join(out, 'agent.log'))
          machine = new Machine({ image, programs, out, agentSocket, clock, lifeSeconds: LIFE_SECONDS })
          const ended = machine.ended.then((why) => Promise.reject(new Error(why)))
          await within(BOOT_SECONDS, 'dom0 to be ready', Promise.race([agent.ready, ended]))
          return new Dom0(agent, out, clock === 'wall' ? 1 : 0)
        }),
      check,
      report: (what, passed) => (passed ? report.pass(what) : report.fail(what)),
      note: (text) => report.note(text),
    })
  } catch (error) {
    if (!(error instanceof CheckFailed)) report.fail(name, messageOf(error))
    await showLogs(out, report)
  } finally {
    await machine?.[Symbol.asyncDispose]()
  }
}

async function showLogs(out: string, report: Report): Promise<void> {
  report.note(`logs: ${relative(process.cwd(), out)}`)
  for (const name of (await readdir(out)).filter((each) => each.endsWith('.log'))) {
    const lines = (await readFile(join(out, name), 'utf8')).trimEnd().split('\n').slice(-8)
    report.note(`last lines of ${name}:\n${lines.map((line) => `  ${line.slice(0, 300)}`).join('\n')}`)
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
