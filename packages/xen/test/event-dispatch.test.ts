import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { EventDispatch } from '../src/event-dispatch.ts'

/** Ports in each half of the table. */
const BATCH = 4

/** A dispatch, and a record of the unmask calls that it makes. */
function setup() {
  const table = new Uint32Array(2 * BATCH)
  const writes: number[][] = []
  const dispatch = new EventDispatch(table, (count) =>
    writes.push([...table.subarray(BATCH, BATCH + count)]),
  )
  const deliver = (...ports: readonly number[]): void => {
    table.set(ports)
    dispatch.deliver(ports.length)
  }
  return { dispatch, writes, deliver }
}

describe('delivery', () => {
  test('calls the handlers of the batch, in its order', () => {
    const { dispatch, deliver } = setup()
    const heard: number[] = []
    for (const port of [1, 2, 3]) dispatch.add(port, () => heard.push(port))
    deliver(3, 1)
    expect(heard).toEqual([3, 1])
  })

  test('skips a port without a handler', () => {
    const { deliver, writes } = setup()
    deliver(7)
    expect(writes).toEqual([])
  })

  test('skips a binding that an earlier handler of the batch closed', () => {
    const { dispatch, deliver } = setup()
    const closed = vi.fn<() => void>()
    dispatch.add(1, () => dispatch.remove(2))
    dispatch.add(2, closed)
    deliver(1, 2)
    expect(closed).not.toHaveBeenCalled()
  })

  test('reaches the other ports when a handler throws, and rethrows as an uncaught exception', async () => {
    const uncaught: unknown[] = []
    const listeners = process.listeners('uncaughtException')
    process
      .removeAllListeners('uncaughtException')
      .on('uncaughtException', (error) => uncaught.push(error))
    onTestFinished(() => {
      process.removeAllListeners('uncaughtException')
      for (const listener of listeners) process.on('uncaughtException', listener)
    })
    const { dispatch, deliver, writes } = setup()
    dispatch.add(1, () => {
      throw new Error('first')
    })
    dispatch.add(2, () => dispatch.unmask(2))
    deliver(1, 2)
    expect(writes).toEqual([[2]])
    await new Promise((resolve) => setTimeout(resolve, 1))
    expect(uncaught).toEqual([new Error('first')])
    deliver(2)
    expect(writes).toEqual([[2], [2]])
  })
})

describe('unmasks', () => {
  test('during a dispatch are one write at its end', () => {
    const { dispatch, deliver, writes } = setup()
    for (const port of [1, 2]) {
      dispatch.add(port, () => {
        dispatch.unmask(port)
        expect(writes).toEqual([])
      })
    }
    deliver(1, 2)
    expect(writes).toEqual([[1, 2]])
  })

  test('at other times are written at once', () => {
    const { dispatch, writes } = setup()
    dispatch.add(1, () => {})
    dispatch.add(2, () => {})
    dispatch.unmask(1)
    dispatch.unmask(2)
    expect(writes).toEqual([[1], [2]])
  })

  test('that exceed a page are several writes', () => {
    const { dispatch, deliver, writes } = setup()
    dispatch.add(1, () => {
      for (let count = 0; count < BATCH + 1; count++) dispatch.unmask(1)
    })
    deliver(1)
    expect(writes.map((write) => write.length)).toEqual([BATCH, 1])
  })

  test('of removed ports are not written', () => {
    const { dispatch, deliver, writes } = setup()
    dispatch.add(1, () => {
      dispatch.remove(1)
      dispatch.unmask(1)
    })
    dispatch.add(2, () => {
      dispatch.unmask(2)
      dispatch.clear()
    })
    deliver(1, 2)
    expect(writes).toEqual([])
  })
})
