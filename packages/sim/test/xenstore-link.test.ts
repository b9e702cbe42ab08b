/** The link to xenstored in another thread; here both ends are in this thread. */
import { XS, XsPacker } from '@xenkit/wire'
import { expect, test } from 'vitest'
import { connectThrough, serveLink } from '../src/xenstore-link.ts'
import type { XenstoreStream } from '../src/xenstore-port.ts'
import { Xenstored } from '../src/xenstored/index.ts'
import { RawXenstore } from './support/raw-xenstore.ts'

const KIB = 1024

async function linked(): Promise<{
  stream: XenstoreStream
  received: () => number
  xenstored: Xenstored
  dom0: RawXenstore
}> {
  const xenstored = new Xenstored()
  xenstored.introduceDomain(5)
  const dom0 = new RawXenstore(xenstored, 0)
  await dom0.setPerms('/', 'r0')
  const { port1, port2 } = new MessageChannel()
  serveLink(port1, (receiver) => xenstored.connect(5, receiver))
  let received = 0
  const stream = connectThrough(port2)({
    data: (bytes) => {
      received += bytes.length
    },
    closed: () => {},
  })
  const packer = new XsPacker()
  packer.append(XS.WATCH, 1, 0, '/\0t\0')
  stream.write(packer.take())
  await until(() => received > 0)
  port2.unref()
  return { stream, received: () => received, xenstored, dom0 }
}

const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve))
}

const NAME = 1000
/** Bytes of one watch event: header, path and token, each text with its NUL. */
const EVENT = 16 + 1 + NAME + 1 + 2
async function causeEvents(dom0: RawXenstore, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    await dom0.write(`/${String(i).padStart(4, '0').padEnd(NAME, 'n')}`, '')
  }
}

test('a thread that does not acknowledge is sent 256 KiB at most', async () => {
  const { stream, received, xenstored, dom0 } = await linked()
  stream.pause()
  const before = received()
  await causeEvents(dom0, 1000)
  await until(() => received() >= 256 * KIB)
  expect(received()).toBeLessThan(260 * KIB)
  expect(xenstored.domains.get(5)?.used('memory')).toBeGreaterThan(700 * KIB)
  stream.resume()
  await until(() => received() - before === 1000 * EVENT)
  expect(xenstored.domains.get(5)?.used('memory')).toBeLessThan(10)
  stream.close()
})
