/** Compares any store with a plain array, in rounds of concurrent calls like a guest's requests. */
import fc from 'fast-check'
import { expect } from 'vitest'
import { type BlockStore, bytesMoved } from '@xenkit/block-store'

export interface ModelOptions {
  readonly store: BlockStore
  /**
   * The bytes that the store holds at the start, default zeroes. The run updates the array: at its
   * end it has the bytes that the store must hold.
   */
  readonly model?: Uint8Array
  /**
   * Changes the model as a discard of these sectors must change the store. Without it, discarded
   * sectors may read as anything.
   */
  readonly discarded?: (sector: number, count: number, model: Uint8Array) => void
  /**
   * Whether calls may fail. A failed write or discard may leave anything in its own sectors, but
   * must not change others.
   */
  readonly mayFail?: boolean
  readonly numRuns?: number
  /** Called before the whole store is read at the end, to stop injecting faults. */
  readonly healed?: () => void
  /** Called between rounds of concurrent calls. */
  readonly meanwhile?: (store: BlockStore, model: Uint8Array) => Promise<void>
}

const KINDS = ['read', 'write', 'discard', 'flush'] as const
interface Step {
  readonly kind: (typeof KINDS)[number]
  readonly sector: number
  readonly count: number
  readonly fill: number
  /** Lengths of the call's buffers; a buffer needn't be whole sectors. */
  readonly cuts: readonly number[]
}

/** Bytes of the model that may be anything, after a discard. */
type Unknown = Uint8Array

export async function expectModelled(o: ModelOptions): Promise<Uint8Array> {
  const { store } = o
  const { sectors } = store
  const unit = (store.sectorSize ?? 512) / 512
  const model = o.model ?? new Uint8Array(sectors * 512)
  const unknown: Unknown = new Uint8Array(model.length)
  const step = fc.record<Step>({
    kind: fc.constantFrom(...KINDS),
    sector: fc.nat(sectors / unit - 1).map((n) => n * unit),
    count: fc
      .oneof(
        { weight: 4, arbitrary: fc.integer({ min: 1, max: 12 }) },
        fc.integer({ min: 1, max: 300 }),
      )
      .map((n) => n * unit),
    fill: fc.nat(255),
    cuts: fc.array(fc.integer({ min: 1, max: 9000 }), { maxLength: 4 }),
  })
  const rounds = fc.array(fc.array(step, { minLength: 1, maxLength: 8 }), {
    minLength: 1,
    maxLength: 8,
  })
  await fc.assert(
    fc.asyncProperty(rounds, async (steps) => {
      for (const round of steps) {
        const steps = apart(round, sectors)
        const results = await Promise.allSettled(
          steps.map((one) => run(store, one, model, unknown, o.discarded)),
        )
        for (const [i, result] of results.entries()) {
          if (result.status !== 'rejected') continue
          const failed = steps[i]
          if (!o.mayFail || failed === undefined || isAssertion(result.reason)) throw result.reason
          if (failed.kind === 'write' || failed.kind === 'discard') {
            unknown.fill(1, failed.sector * 512, (failed.sector + failed.count) * 512)
          }
        }
        await o.meanwhile?.(store, model)
      }
    }),
    { numRuns: o.numRuns ?? 40 },
  )
  o.healed?.()
  expectEqual(await readAll(store), model, unknown, 0)
  return model
}

const isAssertion = (reason: unknown): boolean =>
  reason instanceof Error && reason.name === 'AssertionError'

export async function readAll(store: BlockStore): Promise<Uint8Array> {
  const bytes = new Uint8Array(store.sectors * 512)
  await store.read(0, [bytes])
  return bytes
}

/** Cuts the round's steps to the disk's size, and drops steps that overlap an earlier one. */
function apart(round: readonly Step[], sectors: number): Step[] {
  const kept: Step[] = []
  for (const step of round) {
    const count = Math.min(step.count, sectors - step.sector)
    if (
      kept.every(
        (other) => other.sector + other.count <= step.sector || step.sector + count <= other.sector,
      )
    ) {
      kept.push({ ...step, count })
    }
  }
  return kept
}

async function run(
  store: BlockStore,
  { kind, sector, count, fill, cuts }: Step,
  model: Uint8Array,
  unknown: Unknown,
  discarded: ModelOptions['discarded'],
): Promise<void> {
  const [from, to] = [sector * 512, (sector + count) * 512]
  if (kind === 'flush') return store.flush?.()
  if (kind === 'discard') {
    if (!store.discard) return
    await store.discard(sector, count, { secure: false })
    if (discarded) discarded(sector, count, model)
    else unknown.fill(1, from, to)
    return
  }
  const bytes = new Uint8Array(to - from)
  if (kind === 'read') {
    expectWhole(await store.read(sector, pieces(bytes, cuts)), bytes.length)
    expectEqual(bytes, model.subarray(from, to), unknown, from)
    return
  }
  if (!store.write) return
  for (let i = 0; i < bytes.length; i++) bytes[i] = fill + i + (i >> 9) * 7
  const written = bytes.slice()
  expectWhole(await store.write(sector, pieces(bytes, cuts)), bytes.length)
  // A store must not change the buffers of a write: the caller may write them again after an error.
  expect(Buffer.compare(bytes, written)).toBe(0)
  model.set(written, from)
  unknown.fill(0, from, to)
}

function pieces(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const list: Uint8Array[] = []
  let at = 0
  for (const cut of cuts) {
    if (at + cut >= bytes.length) break
    list.push(bytes.subarray(at, at + cut))
    at += cut
  }
  return [...list, bytes.subarray(at)]
}

function expectWhole(result: unknown, bytes: number): void {
  if (result !== undefined) expect(bytesMoved(result)).toBe(bytes)
}

function expectEqual(got: Uint8Array, model: Uint8Array, unknown: Unknown, at: number): void {
  if (Buffer.compare(got, model) === 0) return
  const wrong = got.findIndex((byte, i) => byte !== model[i] && unknown[at + i] === 0)
  if (wrong >= 0) expect.fail(`byte ${at + wrong} is ${got[wrong]}, expected ${model[wrong]}`)
}

/** For `discarded`: a store whose discarded sectors read as zeroes. */
export const zeroed = (sector: number, count: number, model: Uint8Array): void =>
  void model.fill(0, sector * 512, (sector + count) * 512)
