/**
 * `npm run lab -- NAME... [--on STACK]... [--json FILE]` runs scenarios on real Xen; without a name
 * it lists them.
 */
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { scenarios } from '../scenarios/index.ts'
import type { Figure } from './figure.ts'
import type { Debian } from './image/debian.ts'
import { type Image, openImage } from './image/image.ts'
import { savePicture } from './picture.ts'
import { Report } from './report.ts'
import { runScenario } from './run-scenario.ts'
import type { Scenario } from './scenario.ts'
import { isStackName, stacks, type StackName } from './stack.ts'

const { positionals: names, values } = parseArgs({
  allowPositionals: true,
  options: { on: { type: 'string', multiple: true }, json: { type: 'string' } },
})
const unknown = names.filter((name) => !Object.hasOwn(scenarios, name))
const told = values.on?.filter(isStackName)
const stacksOf = (scenario: Scenario): readonly StackName[] =>
  told ?? scenario.stacks ?? ['debian12-pv']

if (names.length === 0) {
  for (const [name, scenario] of Object.entries(scenarios)) {
    console.log(`${name.padEnd(10)} ${scenario.title}; ${stacksOf(scenario).join(', ')}`)
  }
} else if (unknown.length > 0) {
  console.error(
    `no scenario is named "${unknown.join('", "')}", there are: ${Object.keys(scenarios).join(', ')}`,
  )
  process.exitCode = 2
} else if (told?.length !== values.on?.length) {
  console.error(`--on knows ${Object.keys(stacks).join(', ')}, not "${values.on?.join('", "')}"`)
  process.exitCode = 2
} else {
  const report = new Report()
  const images = new Map<Debian, Image>()
  const date = new Date().toISOString()
  const figures: Figure[] = []
  try {
    for (const name of names) {
      const scenario = scenarios[name]
      if (scenario === undefined) continue
      const first = figures.length
      for (const on of stacksOf(scenario)) {
        const { debian } = stacks[on]
        const image = images.get(debian) ?? (await openImage(debian, (text) => report.note(text)))
        images.set(debian, image)
        const measured = await runScenario(name, scenario, { on, image, report })
        figures.push(
          ...measured.map((figure) => ({ ...figure, name: `${name} on ${on}: ${figure.name}` })),
        )
      }
      const own = figures.slice(first)
      if (scenario.picture !== undefined && told === undefined && own.length > 0) {
        await savePicture(scenario.picture, {
          heading: `npm run lab -- ${name}, ${date}`,
          figures: own,
        })
      }
    }
  } catch (error) {
    report.fail('the image', error instanceof Error ? error.message : String(error))
  }
  if (values.json !== undefined) {
    await writeFile(values.json, `${JSON.stringify({ date, figures }, undefined, 2)}\n`)
  }
  console.log(report.total())
  process.exitCode = report.failed === 0 ? 0 : 1
}
