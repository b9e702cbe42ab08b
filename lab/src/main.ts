/** `npm run lab -- NAME...` runs scenarios on real Xen; without a name it lists them. */
import { parseArgs } from 'node:util'
import { scenarios } from '../scenarios/index.ts'
import { openImage } from './image/image.ts'
import { Report } from './report.ts'
import { runScenario } from './run-scenario.ts'

const { positionals: names } = parseArgs({ allowPositionals: true })
const unknown = names.filter((name) => !Object.hasOwn(scenarios, name))

if (names.length === 0) {
  for (const [name, { title }] of Object.entries(scenarios)) console.log(`${name.padEnd(10)} ${title}`)
} else if (unknown.length > 0) {
  console.error(`no scenario is named "${unknown.join('", "')}", there are: ${Object.keys(scenarios).join(', ')}`)
  process.exitCode = 2
} else {
  const report = new Report()
  try {
    const image = await openImage((text) => report.note(text))
    for (const name of names) {
      const scenario = scenarios[name]
      if (scenario) await runScenario(name, scenario, image, report)
    }
  } catch (error) {
    report.fail('the image', error instanceof Error ? error.message : String(error))
  }
  console.log(report.total())
  process.exitCode = report.failed === 0 ? 0 : 1
}
