/**
 * Compares both ends of a ring with the macros of Xen's own ring.h. The same operations run on
 * three rings: C on both sides, C frontend with BackRing, and FrontRing with C backend. After every
 * operation the results must be equal, and the pages too, byte by byte.
 */
import {
  closeSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { compileC, whyNoXenC } from '../../wire/test/compile-c.ts'
import { BackRing, FrontRing } from '../src/index.ts'
import { PeerProgram } from './support/peer-program.ts'
import { anyIndex, readMessage, ringMemory, writeMessage } from './support/ring-memory.ts'

type Operation =
  | { readonly name: 'push' | 'answer'; readonly count: number }
  | { readonly name: 'take'; readonly max: number }
  | { readonly name: 'collect' | 'check' }

const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({
    name: fc.constantFrom('push' as const, 'answer' as const),
    count: fc.integer({ min: 0, max: 40 }),
  }),
  fc.record({ name: fc.constant('take' as const), max: fc.integer({ min: 0, max: 40 }) }),
  fc.record({ name: fc.constantFrom('collect' as const, 'check' as const) }),
)

const reason = whyNoXenC()
const directory = mkdtempSync(join(tmpdir(), 'xenkit-ring-peer-'))
afterAll(() => rmSync(directory, { recursive: true }))

const flag = (value: boolean): string => (value ? '1' : '0')
const tagsOf = (ring: BackRing | FrontRing, count: number): string =>
  Array.from({ length: count }, (_, i) => ` ${readMessage(ring, i)}`).join('')

/**
 * The commands of the C program, carried out by this package's rings, with results in the same
 * format.
 */
const ours = {
  push: (ring: FrontRing, tag: number, count: number): string => {
    for (let i = 0; i < count && ring.free > 0; i++) {
      writeMessage(ring, ring.reserveRequest(), tag + i)
    }
    return flag(ring.publish())
  },
  collect: (ring: FrontRing): string => {
    const tags = tagsOf(ring, ring.drain(ring.size))
    return flag(ring.finalCheck()) + tags
  },
  take: (ring: BackRing, max: number): string => tagsOf(ring, ring.drain(max)),
  answer: (ring: BackRing, tag: number, count: number): string => {
    for (let i = 0; i < count && ring.unanswered > 0; i++) {
      writeMessage(ring, ring.reserveResponse(), tag + i)
    }
    return flag(ring.publish())
  },
  check: (ring: BackRing): string => flag(ring.finalCheck()),
}

/** Runs the operations on all three rings, and compares results and pages. */
async function compare(o: {
  program: string
  slotSize: number
  pages: number
  index: number
  operations: readonly Operation[]
}): Promise<void> {
  const { slotSize, pages, index } = o
  const file = join(directory, 'pages')
  const bytes = pages * 4096
  writeFileSync(file, '')
  truncateSync(file, 3 * bytes)
  const fd = openSync(file, 'r+')
  const peer = new PeerProgram(o.program, file, String(pages), String(index))
  try {
    const size = Number(await peer.answer())
    const backMemory = ringMemory({ pages, slotSize, index })
    const frontMemory = ringMemory({ pages, slotSize, index })
    const back = BackRing.attach(backMemory)
    const front = FrontRing.attach({ ...frontMemory, index })
    expect([back.size, front.size]).toEqual([size, size])

    /**
     * Runs a step of a TypeScript end on a copy of a ring's pages: it is read from the file before
     * the step and written back afterwards.
     */
    const withPages = (ring: number, memory: Uint8Array, step: () => string): string => {
      readSync(fd, memory, 0, bytes, ring * bytes)
      const answer = step()
      writeSync(fd, memory, 0, bytes, ring * bytes)
      return answer
    }
    let tag = 1
    for (const one of o.operations) {
      const [command, isFront, step] = describeOperation(one, tag, front, back)
      const reference = await peer.run(0, command)
      const withBackRing = isFront
        ? await peer.run(1, command)
        : withPages(1, backMemory.bytes, step)
      const withFrontRing = isFront
        ? withPages(2, frontMemory.bytes, step)
        : await peer.run(2, command)
      expect([command, withBackRing, withFrontRing]).toEqual([command, reference, reference])
      const pagesOf = (ring: number): Buffer => {
        const content = Buffer.alloc(bytes)
        readSync(fd, content, 0, bytes, ring * bytes)
        return content
      }
      expect(pagesOf(1).equals(pagesOf(0))).toBe(true)
      expect(pagesOf(2).equals(pagesOf(0))).toBe(true)
      tag += 100
    }
  } finally {
    peer.close()
    closeSync(fd)
  }
}

/**
 * Returns an operation as a command for the C program, whether the frontend does it, and the same
 * step in TypeScript.
 */
function describeOperation(
  one: Operation,
  tag: number,
  front: FrontRing,
  back: BackRing,
): [string, boolean, () => string] {
  switch (one.name) {
    case 'push':
      return [`push ${tag} ${one.count}`, true, () => ours.push(front, tag, one.count)]
    case 'collect':
      return ['collect', true, () => ours.collect(front)]
    case 'take':
      return [`take ${one.max}`, false, () => ours.take(back, one.max)]
    case 'answer':
      return [`answer ${tag} ${one.count}`, false, () => ours.answer(back, tag, one.count)]
    case 'check':
      return ['check', false, () => ours.check(back)]
  }
}

describe.skipIf(reason !== undefined)(
  `against ring.h${reason ? ` (skipped: ${reason})` : ''}`,
  () => {
    describe.each([112, 108, 12])('slots of %i bytes', (slotSize) => {
      const program = join(directory, `ring-peer-${slotSize}`)
      beforeAll(() =>
        compileC(join(import.meta.dirname, 'support/ring-peer.c'), program, `-DSLOT=${slotSize}`),
      )

      test('any sequence of operations, from any index, on 1 to 4 pages', async () => {
        const property = fc.asyncProperty(
          anyIndex,
          fc.constantFrom(1, 2, 4),
          fc.array(operation, { minLength: 20, maxLength: 120, size: 'max' }),
          (index, pages, operations) => compare({ program, slotSize, pages, index, operations }),
        )
        await expect(fc.assert(property, { numRuns: 25 })).resolves.toBeUndefined()
      })
    })
  },
)
