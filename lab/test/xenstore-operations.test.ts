/** Runs every operation of the xenstore client against Debian's xenstored and the embedded one. */
import type { XenstorePort } from '@xenkit/hypervisor'
import { Xenstored } from '@xenkit/sim'
import { openXenstore, type XenstoreClient } from '@xenkit/xenstore-client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { operations, resetWatches } from '../src/xenstore-operations.ts'
import { whyNoXenstored } from '../src/xenstored/program.ts'
import { XenstoredProcess } from '../src/xenstored/xenstored-process.ts'

const absent = await whyNoXenstored()

describe.skipIf(absent !== undefined)(
  `Debian's xenstored${absent === undefined ? '' : `: ${absent}`}`,
  () => {
    let xenstored: XenstoredProcess
    let xs: XenstoreClient

    beforeAll(async () => {
      xenstored = await XenstoredProcess.start()
      xs = await openXenstore(xenstored)
    })
    afterAll(async () => {
      xs.close()
      await xenstored.close()
    })

    test.each([...operations, resetWatches])('$name', async ({ run }) => {
      await expect(run(xs)).resolves.toBeUndefined()
    })
  },
)

describe('the embedded xenstored', () => {
  const xenstored = new Xenstored()
  const port: XenstorePort = { connect: async (receiver) => xenstored.connect(0, receiver) }
  let xs: XenstoreClient

  beforeAll(async () => {
    xs = await openXenstore(port)
  })
  afterAll(() => {
    xs.close()
    expect(xenstored.openResources()).toEqual([])
  })

  test.each([...operations, resetWatches])('$name', async ({ run }) => {
    await expect(run(xs)).resolves.toBeUndefined()
  })
})
