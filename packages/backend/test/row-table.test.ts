/** A table of rows against a model: five lists of row numbers, one for each state. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { RowState, RowTable } from '@xenkit/backend'

class Model {
  readonly taken: number[] = []
  readonly waiting: number[] = []
  readonly started: number[] = []
  readonly done: number[] = []
  free: number[]

  constructor(rows: number) {
    this.free = Array.from({ length: rows }, (_, i) => rows - 1 - i)
  }
}

/** Moves a row of the model and of the table, if there is one in that state. */
const steps = {
  take(model: Model, table: RowTable): void {
    const row = model.free.pop()
    if (row === undefined) return
    expect(table.take()).toBe(row)
    model.taken.push(row)
  },
  wait(model: Model, table: RowTable, pick: number): void {
    const [row] = model.taken.splice(pick % (model.taken.length || 1), 1)
    if (row === undefined) return
    table.wait(row)
    model.waiting.push(row)
  },
  start(model: Model, table: RowTable): void {
    const row = model.waiting.shift()
    if (row === undefined) return
    table.start(row)
    model.started.push(row)
  },
  refuse(model: Model, table: RowTable): void {
    const row = model.waiting.shift()
    if (row === undefined) return
    table.refuse(row)
    model.done.push(row)
  },
  complete(model: Model, table: RowTable, pick: number): void {
    const [row] = model.started.splice(pick % (model.started.length || 1), 1)
    if (row === undefined) return
    table.complete(row)
    model.done.push(row)
  },
  releaseAll(model: Model, table: RowTable): void {
    table.releaseDone()
    model.free.push(...model.done.splice(0))
  },
}

const anyStep = fc.record({
  step: fc.constantFrom(...Object.values(steps)),
  pick: fc.nat(63),
})

test('the table agrees with the model after any sequence of moves', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 6 }),
      fc.array(anyStep, { maxLength: 120 }),
      (rows, history) => {
        const table = new RowTable(rows)
        const model = new Model(rows)
        for (const { step, pick } of history) {
          step(model, table, pick)
          const { free, taken, waiting, started, done } = model
          const states = [free, taken, waiting, started, done].flatMap((list, state) =>
            list.map((row) => [row, state]),
          )
          expect([...table.state.entries()]).toEqual(states.toSorted(([a = 0], [b = 0]) => a - b))
          expect([table.free, table.waiting, table.started, table.done]).toEqual(
            [free, waiting, started, done].map(({ length }) => length),
          )
          expect(table.next).toBe(waiting[0])
          expect([...table.doneRows.subarray(0, table.done)]).toEqual(done)
        }
      },
    ),
  )
})

describe('a move from the wrong state is refused', () => {
  const table = (): RowTable => {
    const rows = new RowTable(2)
    rows.wait(rows.take())
    return rows
  }
  test.each([
    [
      'completed twice',
      'row 0 expected started, is done',
      (rows: RowTable) => {
        rows.start(0)
        rows.complete(0)
        rows.complete(0)
      },
    ],
    [
      'started twice',
      'row 0 expected waiting, is started',
      (rows: RowTable) => {
        rows.start(0)
        rows.start(0)
      },
    ],
    ['no row', 'row 7 expected started, is no row', (rows: RowTable) => rows.complete(7)],
    [
      'none is free',
      'row 0 expected free, is waiting',
      (rows: RowTable) => {
        rows.take()
        rows.take()
      },
    ],
  ])('%s', (_, message, moves) => {
    const rows = table()
    expect(() => moves(rows)).toThrow(new RangeError(message))
  })
})

test("a device's columns lie in the table's buffer and don't overlap", () => {
  class Columns extends RowTable {
    readonly small = this.column(Uint8Array)
    readonly wide = this.column(Float64Array, 3)
    readonly last = this.column(Uint16Array)
  }
  const table = new Columns(5, 1 + 24 + 2)
  for (const column of [table.small, table.wide, table.last]) {
    expect(column.buffer).toBe(table.buffer)
    column.fill(77)
  }
  expect([...table.state]).toEqual(Array.from({ length: 5 }, () => RowState.FREE))
  expect([table.small.length, table.wide.length, table.last.length]).toEqual([5, 15, 5])
  expect([...table.small, ...table.last].every((value) => value === 77)).toBe(true)
})
