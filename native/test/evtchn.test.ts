import { execFileSync, spawnSync } from 'node:child_process'
import { accessSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { loadNative } from '../index.js'
import { Fifo, until } from './fifo.ts'

const native = loadNative()
const coded = (code: string, message = ''): unknown =>
  expect.objectContaining({ code, message: expect.stringContaining(message) as string })

const toClose: (() => void)[] = []

afterEach(async () => {
  for (const close of toClose.splice(0)) close()
  await until(() => native.counters().polls === 0 && native.counters().fds === 0)
})

/** Opens a device, and records the batches of ports that the device delivers. */
function open(onPending: (batch: number[]) => void = () => {}) {
  const fifo = new Fifo()
  const arena = new native.Arena(4)
  const table = arena.allocate(2)
  const words = new Uint32Array(arena.createBuffer(), table, 2048)
  const batches: number[][] = []
  const evtchn = new native.Evtchn(arena, fifo.path, table, (count) => {
    const batch = [...words.subarray(0, count)]
    batches.push(batch)
    onPending(batch)
  })
  toClose.push(() => {
    evtchn.close()
    fifo[Symbol.dispose]()
  })
  return {
    fifo,
    arena,
    table,
    words,
    batches,
    evtchn,
    notify: evtchn.createNotify(),
    unmask: evtchn.createUnmask(),
  }
}

describe('delivery', () => {
  test('is one call for all ports that are pending', async () => {
    const { fifo, batches } = open()
    fifo.sendPorts(5, 9)
    fifo.sendPorts(7)
    await until(() => batches.length > 0)
    expect(batches).toEqual([[5, 9, 7]])
  })

  test('is limited to 1024 ports a call, with turns of the event loop in between', async () => {
    const { fifo, batches } = open()
    const ports = Array.from({ length: 3000 }, (_, index) => index)
    fifo.sendPorts(...ports)
    let turns = 0
    const count = (): void => void (turns++, batches.length < 3 && setImmediate(count))
    setImmediate(count)
    await until(() => batches.length === 3)
    expect(batches.map((batch) => batch.length)).toEqual([1024, 1024, 952])
    expect(batches.flat()).toEqual(ports)
    expect(turns).toBeGreaterThanOrEqual(2)
  })

  test('runs the microtasks of a call before any other call', async () => {
    const order: string[] = []
    const onPending = (): void => {
      order.push('call')
      queueMicrotask(() => order.push('microtask'))
    }
    // Both devices are ready in the same turn of the event loop.
    const devices = [open(onPending), open(onPending)]
    for (const { fifo } of devices) fifo.sendPorts(1)
    await until(() => devices.every(({ batches }) => batches.length === 1))
    expect(order).toEqual(['call', 'microtask', 'call', 'microtask'])
  })

  test('continues after a handler threw, which is an uncaught exception', async () => {
    const uncaught: unknown[] = []
    const listeners = process.listeners('uncaughtException')
    process
      .removeAllListeners('uncaughtException')
      .on('uncaughtException', (error) => uncaught.push(error))
    onTestFinished(
      () =>
        void listeners.reduce(
          (target, listener) => target.on('uncaughtException', listener),
          process.removeAllListeners('uncaughtException'),
        ),
    )
    const { fifo, batches } = open(([port]) => {
      if (port === 1) throw new Error('handler')
    })
    fifo.sendPorts(1)
    await until(() => batches.length === 1)
    fifo.sendPorts(2)
    await until(() => batches.length === 2)
    expect(uncaught).toEqual([new Error('handler')])
  })

  test('ends with close, also from within a call', async () => {
    const { fifo, batches, evtchn } = open(() => evtchn.close())
    fifo.sendPorts(1)
    await until(() => batches.length === 1)
    fifo.sendPorts(2)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(batches).toEqual([[1]])
  })
})

/** Whether strace works here: it may be missing, and a process may be forbidden to trace. */
const strace = spawnSync('strace', ['-o', '/dev/null', 'true']).status === 0

test.skipIf(!strace)(
  'a read that fails with EFBIG resets the queue of the driver and is reported as an overflow',
  () => {
    using fifo = new Fifo()
    const trace = `${fifo.path}.trace`
    const program = [process.execPath, join(import.meta.dirname, 'evtchn-overflow.mjs'), fifo.path]
    const injected = ['read:error=EFBIG:when=1', 'ioctl:retval=7'].flatMap((each) => [
      '-e',
      `inject=${each}`,
    ])
    // Traces only the calls on the fifo that stands in for the device.
    const out = execFileSync(
      'strace',
      ['-f', '-qq', '-o', trace, '-P', fifo.path, ...injected, ...program],
      { encoding: 'utf8' },
    )
    expect(JSON.parse(out)).toEqual([
      [0, []],
      [1, [5]],
    ])
    const calls = readFileSync(trace, 'utf8')
      .split('\n')
      .flatMap((line) => /EFBIG|EVTCHN_RESET/.exec(line) ?? [])
    expect(calls).toEqual(['EFBIG', 'EVTCHN_RESET'])
  },
)

test('unmask is one write of many ports', async () => {
  const { words, batches, unmask } = open()
  words.set([3, 2, 1], 1024)
  unmask(3)
  await until(() => batches.length > 0)
  expect(batches).toEqual([[3, 2, 1]])
  unmask(0)
  expect(() => unmask(1025)).toThrow(coded('ERR_OUT_OF_RANGE'))
})

describe('failures', () => {
  test('name the operation and its arguments', () => {
    const { evtchn, notify } = open()
    expect(() => evtchn.bindInterdomain(1, 7)).toThrow(
      coded('ENOTTY', 'IOCTL_EVTCHN_BIND_INTERDOMAIN [1, 7]'),
    )
    expect(() => evtchn.bindUnbound(1)).toThrow(
      coded('ENOTTY', 'IOCTL_EVTCHN_BIND_UNBOUND_PORT [1]'),
    )
    expect(() => evtchn.bindVirq(2)).toThrow(coded('ENOTTY', 'IOCTL_EVTCHN_BIND_VIRQ [2]'))
    expect(() => notify(7)).toThrow(coded('ENOTTY', 'IOCTL_EVTCHN_NOTIFY [7]'))
    expect(() => evtchn.unbind(7)).toThrow(coded('ENOTTY', 'IOCTL_EVTCHN_UNBIND [7]'))
  })

  test('after close, calls are refused', () => {
    const { evtchn, notify, unmask } = open()
    evtchn.close()
    evtchn.close()
    evtchn.unbind(7)
    expect(() => notify(7)).toThrow(coded('ERR_CLOSED'))
    expect(() => unmask(1)).toThrow(coded('ERR_CLOSED'))
    expect(() => evtchn.bindUnbound(1)).toThrow(coded('ERR_CLOSED'))
  })

  test('a call without a number is refused', () => {
    const { notify, unmask } = open()
    for (const call of [notify, unmask]) {
      expect(() => Reflect.apply(call, undefined, [])).toThrow(
        coded('InvalidArg', 'expected a number'),
      )
    }
  })

  test('a device that cannot be polled is refused, and closed', () => {
    const { arena, table } = open()
    expect(() => new native.Evtchn(arena, '/dev/null', table, () => {})).toThrow(
      coded('EPERM', 'uv_poll_init'),
    )
    expect(native.counters()).toMatchObject({ fds: 1, polls: 1 })
  })

  test('a table must be two allocated pages', () => {
    const { fifo, arena } = open()
    expect(() => new native.Evtchn(arena, fifo.path, arena.allocate(1), () => {})).toThrow(
      coded('ERR_OUT_OF_RANGE'),
    )
  })

  test('the table stays while the device is open', () => {
    const { arena, table, words, evtchn } = open()
    words[1024] = 9
    arena.close(table)
    expect(words[1024]).toBe(9)
    evtchn.close()
    expect(words[1024]).toBe(0)
  })

  // A tun device that isn't set up reports POLLERR, and reads of it fail with EBADFD.
  const tun = '/dev/net/tun'
  test.skipIf(!accessible(tun))('a device that fails is closed and reported', async () => {
    const { arena } = open()
    const counts: number[] = []
    const failing = new native.Evtchn(arena, tun, arena.allocate(2), (count) => counts.push(count))
    await until(() => counts.length > 0)
    expect(counts).toEqual([-77])
    expect(() => failing.createNotify()(1)).toThrow(coded('ERR_CLOSED'))
  })
})

function accessible(path: string): boolean {
  try {
    accessSync(path, 6)
    return true
  } catch {
    return false
  }
}
