import { execFileSync, spawnSync } from 'node:child_process'
import {
  closeSync,
  fdatasyncSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest'
import { kinds, native, operations, TestEngine, type Job } from './block-engine.ts'
import { openTable } from './open-table.mjs'
import { until } from './fifo.ts'
import { newEngine } from './new-engine.mjs'

const directory = mkdtempSync(join(tmpdir(), 'xenkit-'))
const coded = (code: string, message = ''): unknown =>
  expect.objectContaining({ code, message: expect.stringContaining(message) as string })
const EIO = -5
const EBADF = -9
const EFBIG = -27
const ENOSPC = -28

afterAll(() => rmSync(directory, { recursive: true }))
afterEach(() => until(() => Object.values(native.counters()).every((count) => count === 0)))

/** Makes a file in which each byte depends on its position. */
function image(
  bytes: number,
  path = join(directory, 'image'),
): { fd: number; path: string; content: Buffer } {
  const content = Buffer.from(
    Uint32Array.from({ length: bytes / 4 }, (_, at) => at * 2654435761).buffer,
  )
  const fd = openSync(path, 'w+')
  writeSync(fd, content)
  fdatasyncSync(fd)
  return { fd, path, content }
}

function openEngine(fd: number, kind: (typeof kinds)[number], bytes?: number) {
  const engine = new TestEngine({ kind, ...(bytes === undefined ? {} : { bytes }) })
  return { engine, file: engine.engine.open(fd) }
}

const read = (file: number, position: number, ...vectors: (readonly [number, number])[]): Job => ({
  file,
  operation: 'read',
  position,
  vectors,
})
const write = (file: number, position: number, ...vectors: (readonly [number, number])[]): Job => ({
  file,
  operation: 'write',
  position,
  vectors,
})

describe.each(kinds)('with %s', (kind) => {
  test('reads from the page cache complete within the call', async () => {
    const { fd, content } = image(1 << 16)
    const { engine, file } = openEngine(fd, kind)
    await using _ = engine
    expect([kind, 'threads']).toContain(engine.engine.kind)
    const outcomes = await engine.run([
      read(file, 8192, [0, 4096], [20_480, 8192]),
      read(file, 0, [4096, 512]),
    ])
    expect(outcomes).toEqual([
      { result: 12_288, atOnce: true },
      { result: 512, atOnce: true },
    ])
    expect(Buffer.compare(engine.memory.subarray(0, 4096), content.subarray(8192, 12_288))).toBe(0)
    expect(
      Buffer.compare(engine.memory.subarray(20_480, 28_672), content.subarray(12_288, 20_480)),
    ).toBe(0)
    expect(Buffer.compare(engine.memory.subarray(4096, 4608), content.subarray(0, 512))).toBe(0)
    closeSync(fd)
  })

  test('a read that is partly in the page cache continues asynchronously', async () => {
    const { fd, path, content } = image(8 << 20)
    const { engine, file } = openEngine(fd, kind, 8 << 20)
    await using _ = engine
    execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none'])
    readSync(fd, Buffer.alloc(4096), 0, 4096, 0)
    const [outcome] = await engine.run([read(file, 0, [0, 5 << 20], [5 << 20, 3 << 20])])
    expect(outcome).toEqual({ result: 8 << 20, atOnce: false })
    expect(Buffer.compare(engine.memory, content)).toBe(0)
    closeSync(fd)
  })

  test('a read ends short at the end of the file', async () => {
    const { fd, content } = image(8192)
    const { engine, file } = openEngine(fd, kind)
    await using _ = engine
    engine.memory.fill(7)
    const outcomes = await engine.run([
      read(file, 4096, [0, 2048], [8192, 8192]),
      read(file, 8192, [65_536, 512]),
      read(file, 1 << 30, [66_048, 512]),
    ])
    expect(outcomes.map(({ result }) => result)).toEqual([4096, 0, 0])
    expect(Buffer.compare(engine.memory.subarray(8192, 10_240), content.subarray(6144))).toBe(0)
    expect(engine.memory.subarray(10_240).every((byte) => byte === 7)).toBe(true)
    closeSync(fd)
  })

  test('a job that fails does not affect the others', async () => {
    const { fd, content } = image(8192)
    const { engine, file } = openEngine(fd, kind)
    await using _ = engine
    const unreadable = openSync('/proc/self/mem', 'r')
    const full = openSync('/dev/full', 'r+')
    const readOnly = openSync(join(directory, 'image'), 'r')
    const [noDisk, noSpace, noWriting] = [unreadable, full, readOnly].map((bad) =>
      engine.engine.open(bad),
    ) as [number, number, number]
    const outcomes = await engine.run([
      read(file, 0, [0, 512]),
      read(noDisk, 0, [4096, 512]),
      write(file, 4096, [0, 512]),
      write(noSpace, 0, [0, 512]),
      { file: noSpace, operation: 'discard', length: 512 },
      write(noWriting, 0, [0, 512]),
      read(file, 1024, [8192, 512]),
    ])
    expect(outcomes.map(({ result }) => result)).toEqual([
      512,
      EIO,
      512,
      ENOSPC,
      expect.toSatisfy((result: number) => result < 0),
      EBADF,
      512,
    ])
    expect(Buffer.compare(engine.memory.subarray(8192, 8704), content.subarray(1024, 1536))).toBe(0)
    for (const one of [fd, unreadable, full, readOnly]) closeSync(one)
  })

  test('a file stays open for its jobs when the descriptor passed to open is closed', async () => {
    const { fd } = image(1 << 20)
    const { engine, file } = openEngine(fd, kind)
    await using _ = engine
    closeSync(fd)
    engine.memory.fill(9, 0, 1 << 20)
    const written = engine.run([write(file, 0, [0, 1 << 20])])
    engine.engine.release(file)
    const other = image(4096, join(directory, 'other'))
    expect(engine.engine.open(other.fd)).toBe(file)
    expect((await written)[0]?.result).toBe(1 << 20)
    expect(
      execFileSync('cat', [join(directory, 'image')], { maxBuffer: 1 << 21 }).every(
        (byte) => byte === 9,
      ),
    ).toBe(true)
    expect(Buffer.compare(execFileSync('cat', [other.path]), other.content)).toBe(0)
    engine.engine.release(file)
    expect(() => engine.engine.release(file)).toThrow(
      coded('ERR_OUT_OF_RANGE', `no file ${file} is open`),
    )
    closeSync(other.fd)
  })

  test('one call runs more jobs than there are threads, with few wakes', async () => {
    const { fd } = image(1 << 20)
    const { engine, file } = openEngine(fd, kind)
    await using _ = engine
    const outcomes = await engine.run(
      Array.from({ length: 64 }, (_, at) => write(file, at * 4096, [at * 4096, 4096])),
    )
    expect(outcomes.map(({ result }) => result)).toEqual(Array.from({ length: 64 }, () => 4096))
    expect(engine.wakes.reduce((sum, count) => sum + count, 0)).toBe(
      outcomes.filter(({ atOnce }) => !atOnce).length,
    )
    closeSync(fd)
  })

  test('after close no job starts, and those in flight are reported', async () => {
    const { fd } = image(1 << 20)
    const { engine, file } = openEngine(fd, kind)
    const flushed = engine.run([{ file, operation: 'flush' }])
    engine.engine.close()
    engine.engine.close()
    engine.engine.release(file)
    expect(() => engine.submit(0)).toThrow(coded('ERR_CLOSED'))
    expect(() => engine.engine.open(fd)).toThrow(coded('ERR_CLOSED'))
    expect(await flushed).toEqual([{ result: 0, atOnce: false }])
    await engine[Symbol.asyncDispose]()
    closeSync(fd)
  })

  test('a table outlives its engine', async () => {
    const { fd } = image(4096)
    const { engine, file } = openEngine(fd, kind)
    await engine.run([read(file, 0, [0, 512])])
    await engine[Symbol.asyncDispose]()
    expect(engine.table.result.includes(512)).toBe(true)
    closeSync(fd)
  })
})

test('a write cut short by a file size limit continues, then fails with EFBIG', () => {
  const script = `
    import { openSync, statSync } from 'node:fs'
    import { loadNative } from ${JSON.stringify(new URL('../index.js', import.meta.url).href)}
    import { openTable } from ${JSON.stringify(new URL('open-table.mjs', import.meta.url).href)}
    const memory = new Uint8Array(65536)
    const results = []
    for (const kind of ['io_uring', 'threads']) {
      const path = process.argv[1] + kind
      const engine = new (loadNative().BlockEngine)(memory, () => {
        results.push(table.result[0], statSync(path).size)
        engine.close()
        if (results.length === 4) console.log(JSON.stringify(results))
      }, kind)
      const table = openTable(engine)
      table.file[0] = engine.open(openSync(path, 'w+'))
      table.count[0] = 1
      table.bytes[0] = 65536
      table.operation[0] = ${operations.write}
      engine.createSubmit()(table.number, 1)
      engine.proceed()
    }`
  const { stdout, stderr } = spawnSync(
    'sh',
    [
      '-c',
      'ulimit -f 8; exec "$@"',
      'sh',
      process.execPath,
      '--input-type=module',
      '-e',
      script,
      join(directory, 'limited-'),
    ],
    { encoding: 'utf8', timeout: 20_000 },
  )
  expect(stderr).toBe('')
  const [first, size, ...others] = JSON.parse(stdout) as number[]
  expect([first, ...others]).toEqual([EFBIG, EFBIG, size])
  expect(size).toBeGreaterThan(0)
  expect(size).toBeLessThan(65_536)
})

test('where io_uring is refused, threads run the jobs', () => {
  // One descriptor is left. The engine's eventfd takes it, so the kernel has none for an io_uring.
  const script = `
    import { closeSync, openSync } from 'node:fs'
    import { loadNative } from ${JSON.stringify(new URL('../index.js', import.meta.url).href)}
    const { BlockEngine } = loadNative()
    const open = []
    try { for (;;) open.push(openSync('/dev/null')) } catch {}
    closeSync(open.pop())
    const engine = new BlockEngine(new Uint8Array(8), () => {})
    console.log(engine.kind)
    engine.close()
    setTimeout(() => {
      try { new BlockEngine(new Uint8Array(8), () => {}, 'io_uring') } catch (error) { console.log(error.code, error.message) }
    })`
  const { stdout, stderr } = spawnSync(
    'sh',
    ['-c', 'ulimit -n 64; exec "$@"', 'sh', process.execPath, '--input-type=module', '-e', script],
    { encoding: 'utf8', timeout: 20_000 },
  )
  expect(stderr).toBe('')
  expect(stdout).toBe('threads\nEMFILE io_uring_setup: EMFILE\n')
})

test('without memory for a ring, a test falls back to threads with a warning', () => {
  const asked: (string | undefined)[] = []
  const refusing = (code: string) => ({
    BlockEngine: class extends native.BlockEngine {
      constructor(
        memory: Uint8Array,
        onDone: (count: number) => void,
        kind?: 'io_uring' | 'threads',
      ) {
        asked.push(kind)
        if (kind !== 'threads') throw Object.assign(new Error(`io_uring_setup: ${code}`), { code })
        super(memory, onDone, kind)
      }
    },
  })
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
  newEngine(refusing('ENOMEM'), new Uint8Array(8), () => {}, 'io_uring').close()
  expect(warn).toHaveBeenCalledWith('io_uring_setup: ENOMEM: threads serve in its place')
  warn.mockRestore()
  expect(() => newEngine(refusing('EMFILE'), new Uint8Array(8), () => {}, 'io_uring')).toThrow(
    'EMFILE',
  )
  expect(() => newEngine(refusing('ENOMEM'), new Uint8Array(8), () => {})).toThrow('ENOMEM')
  expect(asked).toEqual(['io_uring', 'threads', 'io_uring', undefined])
})

describe('tables', () => {
  /** Opens an engine, and records the table and job number of each completion. */
  function open() {
    const done: (readonly [number, number])[] = []
    const engine = new native.BlockEngine(
      new Uint8Array(4096),
      (count) =>
        done.push(
          ...Array.from(
            list.subarray(0, count),
            (number) => [number >>> 16, number & 0xffff] as const,
          ),
        ),
      'threads',
    )
    const list = new Uint32Array(engine.createDone())
    const submit = engine.createSubmit()
    /** Adds a table of one job that flushes a file. */
    const add = (file: number): number => {
      const table = openTable(engine)
      table.file[0] = file
      table.operation[0] = operations.flush
      return table.number
    }
    return { engine, done, submit, add }
  }

  test('have columns one after another, which the addon places', () => {
    const { engine } = open()
    const number = engine.addTable(2, 3)
    const layout = engine.tableLayout(number)
    const { position, length, file, first, count, result, list } = layout
    expect([position, length, file, first, count, result, list]).toEqual([
      0, 16, 32, 40, 48, 56, 64,
    ])
    const { offset, bytes, operation, size } = layout
    expect([offset, bytes, operation, size]).toEqual([72, 84, 96, 98])
    expect(engine.createTable(number).byteLength).toBe(size)
    engine.close()
  })

  test('jobs with the same number in two tables are different jobs', async () => {
    const { fd } = image(4096)
    const { engine, done, submit, add } = open()
    const file = engine.open(fd)
    const tables = [add(file), add(file), add(file)]
    for (const table of [2, 0]) expect(submit(tables[table] ?? -1, 1)).toBe(0)
    engine.proceed()
    await until(() => done.length === 2)
    expect(done.toSorted()).toEqual([
      [0, 0],
      [2, 0],
    ])
    engine.close()
    closeSync(fd)
  })

  test('deferred jobs start with the fourth call at the latest, for any table', async () => {
    const { fd } = image(4096)
    const { engine, done, submit, add } = open()
    const file = engine.open(fd)
    const [first = -1, second = -1] = [add(file), add(file)]
    for (const [table, count] of [
      [first, 1],
      [second, 0],
      [second, 0],
      [first, 0],
    ] as const) {
      submit(table, count)
    }
    await until(() => done.length === 1)
    // The engine restarts its count of `submit` calls when it starts the deferred jobs.
    for (const [table, count] of [
      [second, 1],
      [first, 1],
      [first, 0],
      [first, 0],
    ] as const) {
      submit(table, count)
    }
    await until(() => done.length === 3)
    expect(done.toSorted()).toEqual([
      [first, 0],
      [first, 0],
      [second, 0],
    ])
    engine.close()
    engine.proceed()
    closeSync(fd)
  })

  test('a removed table is freed with its last job, and its number is reused', async () => {
    const { fd } = image(4096)
    const { engine, done, submit, add } = open()
    const file = engine.open(fd)
    expect(add(file)).toBe(0)
    submit(0, 1)
    engine.proceed()
    engine.removeTable(0)
    expect(() => submit(0, 0)).toThrow(coded('ERR_OUT_OF_RANGE', 'no table 0'))
    expect(add(file)).toBe(1)
    await until(() => done.length === 1)
    expect(done).toEqual([[0, 0]])
    expect(() => engine.removeTable(0)).toThrow(coded('ERR_OUT_OF_RANGE', 'no table 0'))
    expect(() => engine.createTable(0)).toThrow(coded('ERR_OUT_OF_RANGE', 'no table 0'))
    engine.removeTable(1)
    expect([add(file), add(file), add(file)]).toEqual([0, 1, 2])
    engine.close()
    expect(() => engine.addTable(1, 1)).toThrow(coded('ERR_CLOSED'))
    engine.removeTable(0)
    closeSync(fd)
  })
})

describe('an invalid job is refused, and no job of the batch starts', () => {
  const whole: Job = { file: 0, operation: 'write', vectors: [[0, 4096]] }
  test.each<[string, string, (engine: TestEngine) => void]>([
    [
      'a number past the end',
      'job 64: expected one of 0..63',
      (engine) => (engine.table.list[1] = 64),
    ],
    [
      'the same job twice',
      'job 5: it is in flight or listed twice',
      (engine) => (engine.table.list[1] = 5),
    ],
    [
      'an unknown operation',
      '"operation" expected 0..4, got 5',
      (engine) => (engine.table.operation[6] = 5),
    ],
    ['a file that is not open', 'no file 1 is open', (engine) => (engine.table.file[6] = 1)],
    [
      'a negative position',
      '"position" expected an integer 0..2^53-1, got -1',
      (engine) => (engine.table.position[6] = -1),
    ],
    ['a position that is no number', 'got NaN', (engine) => (engine.table.position[6] = NaN)],
    ['a position between bytes', 'got 0.5', (engine) => (engine.table.position[6] = 0.5)],
    [
      'a position of 2^53',
      'got 9007199254740992',
      (engine) => (engine.table.position[6] = 2 ** 53),
    ],
    [
      'no vectors',
      '"count" expected 1..1024 vectors, got 0',
      (engine) => (engine.table.count[6] = 0),
    ],
    ['too many vectors', 'got 1025', (engine) => (engine.table.count[6] = 1025)],
    [
      'a vector past the end',
      'there is no vector 1024',
      (engine) => (engine.table.first[6] = 1024),
    ],
    [
      'a vector index past 2^32 - 1',
      'there is no vector 4294967295',
      (engine) => (engine.table.first[6] = 0xffff_ffff),
    ],
    ['an empty vector', 'vector 1 of 0 bytes at 0', (engine) => (engine.table.bytes[1] = 0)],
    [
      'a vector that ends outside the memory',
      'vector 1 of 4096 bytes at 1044481',
      (engine) => (engine.table.offset[1] = (1 << 20) - 4095),
    ],
    [
      'a vector that begins outside the memory',
      'vector 1 of 4096 bytes at 4294967295',
      (engine) => (engine.table.offset[1] = 0xffff_ffff),
    ],
    [
      'a discard of 0 bytes',
      '"length" expected an integer 1..2^53-1, got 0',
      (engine) => (engine.table.operation[6] = 3),
    ],
    [
      'a write-zeroes of half a byte',
      'got 0.5',
      (engine) => ((engine.table.operation[6] = 4), (engine.table.length[6] = 0.5)),
    ],
  ])('%s', async (_, message, spoil) => {
    const fd = openSync(join(directory, 'untouched'), 'w+')
    const { engine } = openEngine(fd, 'threads')
    await using _engine = engine
    engine.describe(5, whole, 0)
    engine.describe(6, whole, 1)
    engine.table.list.set([5, 6])
    spoil(engine)
    expect(() => engine.submit(2)).toThrow(coded('ERR_OUT_OF_RANGE', message))
    expect(native.counters().jobs).toBe(0)
    // The refused batch has left no job marked as busy, so the job can be submitted again.
    expect(await engine.run([whole])).toEqual([{ result: 4096, atOnce: expect.any(Boolean) }])
    closeSync(fd)
  })

  test('a job in flight', async () => {
    const { fd } = image(1 << 20)
    const { engine, file } = openEngine(fd, 'threads')
    await using _ = engine
    const flushed = engine.run([{ file, operation: 'flush' }])
    expect(() => engine.submit(1)).toThrow(coded('ERR_OUT_OF_RANGE', 'it is in flight'))
    await flushed
    closeSync(fd)
  })

  test('more bytes than one system call moves', async () => {
    const fd = openSync('/dev/null', 'r+')
    const { engine, file } = openEngine(fd, 'threads', 1 << 30)
    await using _ = engine
    const gibibyte = [0, 1 << 30] as const
    await expect(async () => engine.run([write(file, 0, gibibyte, gibibyte)])).rejects.toThrow(
      coded('ERR_OUT_OF_RANGE', '2147483648 bytes are more than 2147479552'),
    )
    closeSync(fd)
  })

  test('detached memory', () => {
    const memory = new Uint8Array(4096)
    const engine = new native.BlockEngine(memory, () => {})
    structuredClone(memory.buffer, { transfer: [memory.buffer] })
    expect(() => engine.createSubmit()(0, 0)).toThrow(
      coded('ERR_OUT_OF_RANGE', 'detached or resized'),
    )
    engine.close()
  })

  test('invalid arguments', async () => {
    const memory = new Uint8Array(16)
    expect(() => new native.BlockEngine(memory, () => {}, 'magic' as 'threads')).toThrow(
      coded('ERR_OUT_OF_RANGE', "'magic'"),
    )
    expect(
      () => new native.BlockEngine(new Float64Array(1) as unknown as Uint8Array, () => {}),
    ).toThrow(coded('InvalidArg', 'Uint8Array'))
    await using engine = new TestEngine({ kind: 'threads' })
    const table = (jobs: number, vectors: number) => () => engine.engine.addTable(jobs, vectors)
    expect(table(0, 1)).toThrow(coded('ERR_OUT_OF_RANGE', '1..32768 jobs'))
    expect(table(32_769, 1)).toThrow(coded('ERR_OUT_OF_RANGE'))
    expect(table(1, 2 ** 25 + 1)).toThrow(coded('ERR_OUT_OF_RANGE'))
    expect(() => engine.submit('1' as unknown as number)).toThrow(coded('InvalidArg', 'a number'))
    expect(() => engine.submit(65)).toThrow(
      coded('ERR_OUT_OF_RANGE', '"count" expected an integer 0..64, got 65'),
    )
    expect(() => engine.engine.open(-1)).toThrow(coded('ERR_OUT_OF_RANGE'))
    expect(() => engine.engine.open(1 << 20)).toThrow(coded('EBADF', 'dup of descriptor 1048576'))
    expect(() => engine.engine.release(0)).toThrow(coded('ERR_OUT_OF_RANGE'))
  })
})
