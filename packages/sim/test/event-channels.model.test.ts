import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { createMachine } from '../src/index.ts'
import { DOMAINS, eventCommands, type Real } from './support/event-channels-model.ts'

test('event channels behave like the model for any order of calls', async () => {
  const run = fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 0xffff_ffff }),
      eventCommands(),
      async (seed, sequence) => {
        await using machine = createMachine({ seed, pages: 8, grants: 16, ports: 256 })
        const domains = Array.from({ length: DOMAINS }, () => machine.createDomain())
        const real: Real = { machine, domains, ports: [] }
        await fc.asyncModelRun(() => ({ model: { ports: [] }, real }), sequence)
        for (const { binding } of real.ports) binding.close()
      },
    ),
    { numRuns: 150 },
  )
  await expect(run).resolves.toBeUndefined()
})
