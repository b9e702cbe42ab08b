import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { createMachine } from '../src/index.ts'
import {
  DOMAINS,
  expectAccount,
  expectBytes,
  grantCommands,
  type World,
} from './support/grants-model.ts'

test('grants behave like the model for any order of calls', async () => {
  const run = fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 0xffff_ffff }),
      grantCommands(),
      async (seed, sequence) => {
        await using machine = createMachine({ seed, pages: 25, grants: 1024, ports: 8 })
        const domains = Array.from({ length: DOMAINS }, () => machine.createDomain())
        const world: World = { machine, domains, shares: [], mappings: [], marks: 0 }
        fc.modelRun(() => ({ model: world, real: world }), sequence)
        expectBytes(world)
        expectAccount(world)
        for (const { mapping } of world.mappings) mapping.close()
        for (const shared of world.shares) shared.share.close()
      },
    ),
    { numRuns: 60 },
  )
  await expect(run).resolves.toBeUndefined()
})
