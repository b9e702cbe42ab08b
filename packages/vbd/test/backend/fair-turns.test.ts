/**
 * How long a guest with one request at a time waits while others send requests without a pause. The
 * wait is counted in work for those: 1 for a request and 1 for a page.
 */
import { BLKIF_OP } from '@xenkit/wire'
import { afterEach, expect, test, vi } from 'vitest'
import { TURN } from '@xenkit/backend'
import type { BlockStore } from '../../src/index.ts'
import { memoryStore } from '@xenkit/stores'
import { Crowd } from '../../../backend/test/support/crowd.ts'
import { Flooder, type FlooderOptions } from '../support/flood.ts'
import { RawFrontend, type RawRequest } from '../support/raw-frontend.ts'
import { rig } from '../support/rig.ts'

const { READ } = BLKIF_OP

const LARGEST: RawRequest = { indirect_op: READ, segments: Array.from({ length: 256 }, () => ({})) }

/** Ways to ask for more than a fair share. */
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
   * For each request of the quiet guest: work for each flooder between the request's event and its
   * answer.
   */
  readonly waits: readonly (readonly number[])[]
  /** Work for each flooder in all. */
  readonly done: readonly number[]
}

const REQUESTS = 50
/** If turns never end, the test ends after this much work. */
const FAR_TOO_MANY = 16 * TURN

interface Flooded {
  readonly floods: readonly FlooderOptions[]
  /** The quiet guest's request. */
  readonly request?: RawRequest
  /** Store of the flooders. */
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
   * Called when a flooder was answered. It sends more, and now and then the quiet guest sends a
   * request.
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
  /** Called when the quiet guest was answered. @param never it waited too long: end the test */
  function end(never = false): void {
    waits.push(doneSince())
    asked = false
    // Requests come at every point of a turn: 37 and 101 have no common divisor.
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
 * Longest wait of the quiet guest, in turns. Requests are taken 8 at a time, so 7 refused ones may
 * come on top of a turn.
 */
const most = ({ waits }: Outcome): number => Math.max(...waits.flat()) / (TURN + 7)

test.each(Object.entries(floods))(
  'one guest floods with %s: others wait for at most two turns of it',
  async (_, flood) => {
    expect(most(await flooded({ floods: [flood] }))).toBeLessThanOrEqual(2)
  },
)

test('several guests flood in equal shares: others wait for two turns of each', async () => {
  const outcome = await flooded({ floods: Object.values(floods), dataPath: 'persistent' })
  expect(most(outcome)).toBeLessThanOrEqual(2)
  // 21 requests of 11 pages are 5 less than a turn, 33 batches of refused ones 7 more.
  expect(Math.min(...outcome.done) / Math.max(...outcome.done)).toBeGreaterThan(0.9)
})

test('a guest each of whose requests takes a whole turn waits no longer', async () => {
  expect(
    most(await flooded({ floods: Object.values(floods), request: LARGEST })),
  ).toBeLessThanOrEqual(2)
})

test('asynchronous requests are charged at their start: one more turn to wait', async () => {
  const late = (): BlockStore => ({
    ...memoryStore(2048),
    read: () => new Promise((resolve) => setImmediate(resolve)),
  })
  const outcome = await flooded({ floods: Object.values(floods), store: late })
  expect(most(outcome)).toBeLessThanOrEqual(3)
})

/** The rest of the turn is too little for another request of either disk, but isn't 0. */
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

test('polling an empty ring is charged as work', async () => {
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
  // The clock is read after each 512 looks. At the second reading, after 10 us, a request is there.
  vi.spyOn(performance, 'now').mockImplementation(() => {
    if (++clocks === 2 && answers < FAR_TOO_MANY) ask(looked)
    return (now += 0.01)
  })
  const next = (): void => {
    clocks = 0
    answers++
    const answer = answers
    // If the backend doesn't poll, the request comes all the same.
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
  // A poll of 512 looks at the empty ring costs 8 units of work, the request of one page that it
  // finds costs 2. So a turn has room for TURN / 10 of such requests.
  expect(Math.max(...found)).toBeLessThanOrEqual((2 * TURN) / 10 + 2)
  expect(Math.max(...found)).toBeGreaterThan(TURN / 10 / 2)
})
