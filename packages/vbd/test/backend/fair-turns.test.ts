/**
 * What a guest with one request at a time waits for while others never stop asking: counted in what
 * was done for those, a request as 1 and a page as 1.
 */
import { BLKIF_OP } from '@xenkit/wire'
import { afterEach, expect, test, vi } from 'vitest'
import { TURN } from '@xenkit/backend'
import type { BlockStore } from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { Crowd, Flooder, type FlooderOptions } from '../support/flood.ts'
import { RawFrontend, type RawRequest } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'

const { READ } = BLKIF_OP

const LARGEST: RawRequest = { indirect_op: READ, segments: Array.from({ length: 256 }, () => ({})) }

/** Ways to ask for more than others. */
const floods = {
  'a page a request': { disks: ['xvda'], request: {}, work: 2 },
  '11 pages a request, 4 of the largest rings': {
    disks: ['xvda'],
    queues: 4,
    ringPageOrder: 4,
    request: { segments: Array.from({ length: 11 }, () => ({})) },
    work: 12,
  },
  '1 MiB a request, 2 disks of 4 rings': {
    disks: ['xvda', 'xvdb'],
    queues: 4,
    ringPageOrder: 2,
    request: LARGEST,
    work: 257,
  },
  'a sector of each of 256 pages': {
    disks: ['xvda'],
    request: { indirect_op: READ, segments: Array.from({ length: 256 }, () => ({ last: 0 })) },
    work: 257,
  },
  'what is refused, 4 rings': { disks: ['xvda'], queues: 4, request: { operation: 77 }, work: 1 },
} satisfies Record<string, FlooderOptions>

interface Outcome {
  /**
   * Of each request of the quiet guest, what was done for each flooder between its event and its
   * answer.
   */
  readonly waits: readonly (readonly number[])[]
  /** What was done for each flooder. */
  readonly done: readonly number[]
}

const REQUESTS = 50
/** Where turns have no end, the test does. */
const FAR_TOO_MANY = 16 * TURN

interface Flooded {
  readonly floods: readonly FlooderOptions[]
  /** What the quiet guest asks for. */
  readonly request?: RawRequest
  /** What flooders have. */
  readonly store?: () => BlockStore
  readonly dataPath?: 'copy' | 'persistent'
}

async function flooded(o: Flooded): Promise<Outcome> {
  const { request = {}, store = () => memoryStore(2048), dataPath = 'copy' } = o
  const crowd = new Crowd()
  await using r = await rig({
    store: ({ params }) => (params === 'quiet' ? memoryStore(2048) : store()),
    dataPath,
    through: crowd.through,
  })
  const flooders: Flooder[] = []
  await r.plug({ params: 'quiet' })
  const quiet = await RawFrontend.open(r.guest)
  for (const flood of o.floods) {
    const guest = r.machine.createDomain()
    for (const vdev of flood.disks) await r.plug({ guest, vdev })
    const flooder = await Flooder.open(guest, flood)
    crowd.onAnswer(guest.domid, () => more(flooder))
    flooders.push(flooder)
  }
  const waits: number[][] = []
  const begins = flooders.map(() => 0)
  const doneSince = (): number[] => flooders.map(({ done }, i) => done - (begins[i] ?? 0))
  let pause = 0
  let asked = false
  let ended = false
  let over = (): void => {}
  const allAnswered = new Promise<void>((resolve) => (over = resolve))

  /**
   * A flooder was answered: it asks for more, and now and then the quiet guest asks for something.
   */
  function more(flooder: Flooder): void {
    if (ended) return flooder.rest()
    flooder.fill()
    const since = doneSince()
    if (asked && Math.max(...since) > FAR_TOO_MANY) return end(true)
    if (asked || pause-- > 0) return
    for (const [i, each] of flooders.entries()) begins[i] = each.done
    asked = true
    quiet.put(request)
    quiet.send()
  }
  /** The quiet guest was answered, or there is no point in going on. */
  function end(never = false): void {
    waits.push(doneSince())
    asked = false
    // At every moment of a turn, and after some idle ones: 37 and 101 have no divisor in common.
    pause = (waits.length * 37) % 101
    ended = never || waits.length === REQUESTS
    if (ended) over()
  }
  crowd.onAnswer(r.guest.domid, () => {
    quiet.ring.drain(1)
    quiet.ring.finalCheck()
    if (asked) end()
  })
  for (const flooder of flooders) flooder.fill()
  await allAnswered
  const done = flooders.map((flooder) => flooder.done)
  for (const front of [quiet, ...flooders]) await front[Symbol.asyncDispose]()
  return { waits, done }
}

/**
 * What the quiet guest waited for at most, in turns: requests are taken 8 at a time, and those that
 * are refused may be 7 too many.
 */
const most = ({ waits }: Outcome): number => Math.max(...waits.flat()) / (TURN + 7)

test.each(Object.entries(floods))(
  'beside a guest that floods with %s, nobody waits for more than two turns of it',
  async (_, flood) => {
    expect(most(await flooded({ floods: [flood] }))).toBeLessThanOrEqual(2)
  },
)

test('beside several, for two of each, and those have the same, whatever they ask for and on however many rings', async () => {
  const outcome = await flooded({ floods: Object.values(floods), dataPath: 'persistent' })
  expect(most(outcome)).toBeLessThanOrEqual(2)
  // 21 requests of 11 pages are 5 less than a turn, 33 batches of what is refused 7 more.
  expect(Math.min(...outcome.done) / Math.max(...outcome.done)).toBeGreaterThan(0.9)
})

test('a guest whose every request is a turn of its own waits no longer', async () => {
  expect(
    most(await flooded({ floods: Object.values(floods), request: LARGEST })),
  ).toBeLessThanOrEqual(2)
})

test('what stores finish late counts when it is begun: no more than that comes on top', async () => {
  const late = (): BlockStore => ({
    ...memoryStore(2048),
    read: () => new Promise((resolve) => setImmediate(resolve)),
  })
  const outcome = await flooded({ floods: Object.values(floods), store: late })
  expect(most(outcome)).toBeLessThanOrEqual(3)
})

/** What is left of a turn is too little for another request of either disk, but not nothing. */
test.each([
  { others: true, pages: [1, 1] },
  { others: true, pages: [11, 11] },
  { others: true, pages: [1, 11] },
  { others: false, pages: [8, 8] },
] as const)(
  'two disks of a guest have the same with $pages pages a request, other guests there: $others',
  async ({ others, pages }) => {
    const crowd = new Crowd()
    await using r = await rig({
      store: () => memoryStore(2048),
      dataPath: 'persistent',
      through: crowd.through,
    })
    const fronts: AsyncDisposable[] = []
    if (others) {
      await r.plug()
      const other = await RawFrontend.open(r.guest)
      await other.device.connected()
      fronts.push(other)
    }
    const guest = r.machine.createDomain()
    const flooders: Flooder[] = []
    for (const [i, vdev] of ['xvda', 'xvdb'].entries()) {
      await r.plug({ guest, vdev })
      const count = pages[i] ?? 0
      const request =
        count > 1 ? { indirect_op: READ, segments: Array.from({ length: count }, () => ({})) } : {}
      flooders.push(await Flooder.open(guest, { disks: [vdev], request, work: 1 + count }))
    }
    await new Promise<void>((over) => {
      let answers = 0
      crowd.onAnswer(guest.domid, () => {
        const ends = ++answers > 1_000
        for (const flooder of flooders) flooder[ends ? 'rest' : 'fill']()
        if (ends) over()
      })
      for (const flooder of flooders) flooder.fill()
    })
    const done = flooders.map((flooder) => flooder.done)
    for (const front of [...fronts, ...flooders]) await front[Symbol.asyncDispose]()
    expect(Math.min(...done) / Math.max(...done)).toBeGreaterThan(0.8)
  },
)

afterEach(() => void vi.restoreAllMocks())

test('looking at an empty ring is work, too', async () => {
  const crowd = new Crowd()
  await using r = await rig({
    store: () => memoryStore(64),
    dataPath: 'persistent',
    through: crowd.through,
  })
  const other = r.machine.createDomain()
  for (const guest of [r.guest, other]) await r.plug({ guest })
  await using quiet = await RawFrontend.open(r.guest, { persistent: true })
  await using looked = await RawFrontend.open(other, { persistent: true })
  for (const front of [quiet, looked]) await front.device.connected()

  const found: number[] = []
  let [now, clocks, answers, asked] = [0, 0, 0, false]
  let over = (): void => {}
  const allAnswered = new Promise<void>((resolve) => (over = resolve))
  const ask = (front: RawFrontend): void => {
    front.put()
    if (front.ring.publish()) front.channel.notify()
  }
  // The clock is read when there have been 512 looks. On the second time something is there: after
  // 10 us.
  vi.spyOn(performance, 'now').mockImplementation(() => {
    if (++clocks === 2 && answers < FAR_TOO_MANY) ask(looked)
    return (now += 0.01)
  })
  const next = (): void => {
    clocks = 0
    answers++
    const answer = answers
    // Nobody looks: then it is there all the same.
    setImmediate(() => {
      if (answers === answer && clocks < 2 && found.length < 20) {
        clocks = 2
        ask(looked)
      }
    })
    if (asked || answers % 151 > 0) return
    asked = true
    answers = 0
    ask(quiet)
  }
  const takes = (front: RawFrontend, then: () => void) => (): void => {
    const count = front.ring.drain(1)
    front.ring.finalCheck()
    if (count > 0) then()
  }
  crowd.onAnswer(other.domid, takes(looked, next))
  crowd.onAnswer(
    r.guest.domid,
    takes(quiet, () => {
      asked = false
      found.push(answers)
      if (found.length === 20) over()
    }),
  )
  ask(looked)
  await allAnswered
  // 512 looks are 8, a request of a page is 2.
  expect(Math.max(...found)).toBeLessThanOrEqual((2 * TURN) / 10 + 2)
  expect(Math.max(...found)).toBeGreaterThan(TURN / 10 / 2)
})
