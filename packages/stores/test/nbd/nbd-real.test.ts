/** The NBD store against Debian's nbdkit and qemu-nbd, also with a guest that uses the disk. */
import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openVbd } from '@xenkit/vbd'
import { type NbdEvent, type NbdStore, openNbdStore } from '../../src/index.ts'
import { NbdProcess, makeCertificates, whyNoNbdTools } from './support/nbd-tools.ts'
import { rig } from '../../../vbd/test/support/rig.ts'
import { until } from '../../../backend/test/support/until.ts'

const reason = whyNoNbdTools()
if (reason) console.warn(`not run: ${reason}`)

let directory: string
let sockets = 0
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'xenkit-nbd-'))
})
afterAll(() => rm(directory, { recursive: true }))

const socketPath = (): string => join(directory, `${sockets++}.sock`)
const nbdkit = (path: string, ...args: string[]): Promise<NbdProcess> =>
  NbdProcess.start(['nbdkit', '-f', '--exit-with-parent', '-U', path, ...args], { path })
const qemuNbd = (path: string, ...args: string[]): Promise<NbdProcess> =>
  NbdProcess.start(['qemu-nbd', '--persistent', '--socket', path, ...args], { path })

/** Makes random calls, several concurrently on separate places, and compares them with an array. */
async function expectDisk(store: NbdStore): Promise<void> {
  const unit = store.sectorSize === 4096 ? 8 : 1
  const places = 32
  const size = (store.sectors / places) * 512 // bytes of a place
  const model = new Uint8Array(store.sectors * 512)
  await store.write?.(0, [model.slice()])
  const call = fc.record({
    kind: fc.constantFrom('read', 'write', 'discard', 'flush'),
    at: fc.nat(places - 1),
    units: fc.integer({ min: 1, max: size / 512 / unit }),
    fill: fc.nat(255),
  })
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uniqueArray(call, { maxLength: 16, selector: ({ at }) => at }), { maxLength: 4 }),
      async (rounds) => {
        for (const round of rounds) {
          await Promise.all(
            round.map(async ({ kind, at, units, fill }) => {
              const start = at * size
              const length = units * unit * 512
              if (kind === 'flush') await store.flush?.()
              if (kind === 'discard') {
                await store.discard?.(start / 512, length / 512, { secure: false })
                // Discarded sectors may read as anything: take over their present content.
                await store.read(start / 512, [model.subarray(start, start + length)])
              }
              if (kind === 'write') {
                model.fill(fill, start, start + length)
                await store.write?.(start / 512, [
                  model.slice(start, start + 300),
                  model.slice(start + 300, start + length),
                ])
              }
              const got = [new Uint8Array(100), new Uint8Array(length - 100)]
              await store.read(start / 512, got)
              expect(
                Buffer.compare(Buffer.concat(got), model.subarray(start, start + length)),
              ).toBe(0)
            }),
          )
        }
      },
    ),
    { numRuns: 25 },
  )
  const whole = new Uint8Array(model.length)
  await store.read(0, [whole])
  expect(Buffer.compare(whole, model)).toBe(0)
}

describe.skipIf(reason !== undefined)('nbdkit', () => {
  test.each([1, 4])('memory, %i connections', async (connections) => {
    const path = socketPath()
    await using _ = await nbdkit(path, 'memory', '4M')
    await using store = await openNbdStore(`nbd+unix:///?socket=${path}`, { connections })
    expect(store).toMatchObject({ sectors: 8192, sectorSize: 512 })
    await expectDisk(store)
  })

  test('a file: what was written is in it, discards punch holes', async () => {
    const path = socketPath()
    const image = join(directory, 'file.img')
    await writeFile(image, new Uint8Array(1 << 20).fill(1))
    await using _ = await nbdkit(path, 'file', image)
    await using store = await openNbdStore(`nbd+unix:///?socket=${path}`)
    await store.write?.(16, [new Uint8Array(8192).fill(2)])
    await store.discard?.(1024, 1024, { secure: false })
    await store.flush?.()
    const expected = Buffer.alloc(1 << 20, 1)
      .fill(2, 8192, 16384)
      .fill(0, 1 << 19)
    expect((await readFile(image)).equals(expected)).toBe(true)
  })

  test('places beyond 4 GiB, discards of more', async () => {
    const path = socketPath()
    await using _ = await nbdkit(path, 'memory', '10T')
    await using store = await openNbdStore(`nbd+unix:///?socket=${path}`)
    const [low, high] = [5, 5 + 3 * 2 ** 23] // 12 GiB apart
    await store.write?.(high, [new Uint8Array(512).fill(9)])
    const got = new Uint8Array(512)
    await store.read(low, [got])
    expect(got[0]).toBe(0)
    await store.read(high, [got])
    expect(got[0]).toBe(9)
    await store.discard?.(2, high, { secure: false })
    await store.read(high, [got])
    expect([got[0], store.sectors]).toEqual([0, 10 * 2 ** 31])
  })

  test('sectors of 4096 bytes, a small payload', async () => {
    const path = socketPath()
    await using _ = await nbdkit(
      path,
      '--filter=blocksize-policy',
      'memory',
      '4M',
      'blocksize-minimum=4096',
      'blocksize-preferred=16384',
      'blocksize-maximum=65536',
      'blocksize-error-policy=error',
    )
    await using store = await openNbdStore(`nbd+unix:///?socket=${path}`)
    expect(store).toMatchObject({ sectorSize: 4096, physicalSectorSize: 16384 })
    await expectDisk(store)
  })

  test('a read-only export, an export by name, errors by name', async () => {
    const path = socketPath()
    await using _ = await nbdkit(path, '-r', 'memory', '1M')
    await using store = await openNbdStore(`nbd+unix:///?socket=${path}`)
    expect([store.write, store.flush, store.discard]).toEqual([undefined, undefined, undefined])
    const full = socketPath()
    await using _full = await nbdkit(
      full,
      '--filter=error',
      'memory',
      '1M',
      'error-pwrite=ENOSPC',
      'error-pwrite-rate=100%',
    )
    await using failing = await openNbdStore(`nbd+unix:///?socket=${full}`)
    await expect(failing.write?.(0, [new Uint8Array(512)])).rejects.toMatchObject({
      details: { errno: 'ENOSPC' },
    })
    await failing.read(0, [new Uint8Array(512)])
  })

  describe('TLS', () => {
    let certificates: string
    let ca: Buffer
    beforeAll(async () => {
      certificates = join(directory, 'pki')
      makeCertificates(certificates)
      ca = await readFile(join(certificates, 'ca-cert.pem'))
    })

    const tls = (...args: string[]): string[] => [
      '--tls=require',
      `--tls-certificates=${certificates}`,
      ...args,
    ]

    test('over a unix socket and over TCP', async () => {
      const path = socketPath()
      await using _ = await nbdkit(path, ...tls('memory', '4M'))
      await using store = await openNbdStore(`nbds+unix:///?socket=${path}`, { tls: { ca } })
      await expectDisk(store)
      const port = await freePort()
      await using _tcp = await NbdProcess.start(
        ['nbdkit', '-f', '--exit-with-parent', '-p', String(port), ...tls('memory', '4M')],
        { port },
      )
      await using overTcp = await openNbdStore(`nbds://localhost:${port}/`, {
        tls: { ca },
        connections: 2,
      })
      await expectDisk(overTcp)
    })

    test('an untrusted certificate is refused, and so is plain text, by either side', async () => {
      const path = socketPath()
      await using _ = await nbdkit(path, ...tls('memory', '1M'))
      const uri = `nbds+unix:///?socket=${path}`
      await expect(openNbdStore(uri)).rejects.toThrow(
        /can't be opened: (unable to (verify|get)|self.signed)/,
      )
      await expect(openNbdStore(uri, { tls: { ca, servername: 'elsewhere' } })).rejects.toThrow(
        /elsewhere/,
      )
      await expect(openNbdStore(uri.replace('nbds', 'nbd'))).rejects.toThrow(
        /demands TLS: use nbds:\/\/ or nbds\+unix:\/\//,
      )
      const plain = socketPath()
      await using _plain = await nbdkit(plain, 'memory', '1M')
      await expect(openNbdStore(`nbds+unix:///?socket=${plain}`, { tls: { ca } })).rejects.toThrow(
        /has no TLS|REP_ERR/,
      )
    })

    test('a client with a certificate, where the server wants one', async () => {
      const path = socketPath()
      await using _ = await nbdkit(path, ...tls('--tls-verify-peer', 'memory', '1M'))
      const uri = `nbds+unix:///?socket=${path}`
      const [cert, key] = await Promise.all(
        ['client-cert.pem', 'client-key.pem'].map((name) => readFile(join(certificates, name))),
      )
      await expect(openNbdStore(uri, { tls: { ca } })).rejects.toMatchObject({
        code: 'ERR_XEN_NBD',
      })
      await using store = await openNbdStore(uri, {
        tls: { ca, ...(cert && { cert }), ...(key && { key }) },
      })
      await store.write?.(0, [new Uint8Array(512).fill(1)])
    })
  })
})

describe.skipIf(reason !== undefined)('qemu-nbd', () => {
  test.each([1, 3])('a qcow2 image, %i connections', async (connections) => {
    const path = socketPath()
    const image = join(directory, `${connections}.qcow2`)
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '8M'])
    {
      await using _ = await qemuNbd(
        path,
        '--format=qcow2',
        `--shared=${connections}`,
        '--discard=unmap',
        image,
      )
      await using store = await openNbdStore(`nbd+unix:///?socket=${path}`, { connections })
      await expectDisk(store)
      await store.write?.(100, [new Uint8Array(512).fill(0x5a)])
      await store.flush?.()
    }
    const check = execFileSync(
      'qemu-io',
      ['-r', '-f', 'qcow2', '-c', 'read -P 0x5a 51200 512', image],
      { encoding: 'utf8' },
    )
    expect(check).toMatch(/read 512\/512/)
    expect(check).not.toMatch(/failed/)
    execFileSync('qemu-img', ['check', '-q', image])
  })

  test.each([1, 3])(
    'what a killed one had answered and not flushed is in the image after the next flush, %i connections',
    async (connections) => {
      const path = socketPath()
      const image = join(directory, `killed-${connections}.qcow2`)
      execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '16M'])
      await using server = await qemuNbd(
        path,
        '--format=qcow2',
        `--shared=${connections}`,
        '--cache=writeback',
        image,
      )
      const events: NbdEvent[] = []
      await using store = await openNbdStore(`nbd+unix:///?socket=${path}`, {
        connections,
        onEvent: (event) => events.push(event),
      })
      const model = new Uint8Array(store.sectors * 512)
      const write = async (at: number, fill: number): Promise<void> => {
        model.fill(fill, at, at + 6144)
        await store.write?.(at / 512, [new Uint8Array(6144).fill(fill)])
      }
      for (let life = 1; life <= 3; life++) {
        const clusters = Array.from({ length: 24 }, (_, i) => (life * 40 + i) * 65536)
        // The first write allocates a qcow2 cluster, whose mapping is in the server's memory until
        // a flush.
        await Promise.all(clusters.map((at) => write(at, life)))
        await Promise.all(clusters.map((at) => write(at + 4096, life + 100)))
        const before = events.length
        await server.kill()
        await server.start()
        await until(() =>
          events.slice(before).some((event) => event.kind === 'reconnected' && event.replayed > 0),
        )
      }
      await store.flush?.()
      await server.kill()
      // A kill may leave leaked clusters, which cost space but no data.
      execFileSync('qemu-img', ['check', '-q', '-r', 'leaks', image])
      const raw = `${image}.raw`
      execFileSync('qemu-img', ['convert', '-O', 'raw', image, raw])
      expect((await readFile(raw)).equals(model)).toBe(true)
    },
  )

  test('exports have names', async () => {
    const path = socketPath()
    const image = join(directory, 'named.raw')
    await writeFile(image, new Uint8Array(1 << 20))
    await using _ = await qemuNbd(path, '--format=raw', '--export-name=a disk', image)
    await expect(openNbdStore(`nbd+unix:///other?socket=${path}`)).rejects.toThrow(
      /no export "other"/,
    )
    await using store = await openNbdStore(`nbd+unix:///a%20disk?socket=${path}`)
    expect(store.sectors).toBe(2048)
  })
})

test.skipIf(reason !== undefined)(
  "a guest doesn't notice that its server is killed and started again, in the middle of its I/O",
  async () => {
    const path = socketPath()
    const image = join(directory, 'guest.img')
    const sectors = 4096
    await writeFile(image, new Uint8Array(sectors * 512))
    await using server = await nbdkit(
      path,
      '--filter=delay',
      'file',
      image,
      'wdelay=2ms',
      'rdelay=1ms',
    )
    const events: NbdEvent[] = []
    await using store = await openNbdStore(`nbd+unix:///?socket=${path}`, {
      connections: 2,
      onEvent: (event) => events.push(event),
    })
    await using r = await rig({ store })
    await r.plug()
    await using disk = await openVbd(r.guest, { vdev: 'xvda' })

    const model = new Uint8Array(sectors * 512)
    const progress = { calls: 0, done: false }
    const workers = Array.from({ length: 16 }, async (_, own) => {
      for (let round = 1; !progress.done; round++) {
        // Each writer has a place of its own, and reads it back after each write.
        const at = (own * 64 + (round % 8) * 8) * 512
        model.fill((round + own) & 255, at, at + 4096)
        await disk.write(at / 512, [model.slice(at, at + 4096)])
        const got = new Uint8Array(4096)
        await disk.read(at / 512, [got])
        expect(Buffer.compare(got, model.subarray(at, at + 4096))).toBe(0)
        if (round % 5 === 0) await disk.flush()
        progress.calls++
      }
    })
    const goOn = async (): Promise<void> => {
      const before = progress.calls
      await Promise.race([until(() => progress.calls > before + 40), Promise.all(workers)])
    }
    for (let life = 0; life < 3; life++) {
      await goOn()
      await server.kill()
      await server.start()
    }
    await goOn()
    progress.done = true
    await Promise.all(workers)
    await disk.flush()
    expect(events.filter(({ kind }) => kind === 'disconnected').length).toBeGreaterThanOrEqual(3)
    expect(r.events.filter(({ kind }) => kind !== 'offered' && kind !== 'connected')).toEqual([])
    expect((await readFile(image)).equals(model)).toBe(true)
  },
)

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address !== null ? address.port : 0
}
