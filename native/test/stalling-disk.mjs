// A FUSE file system with one file, `image`, whose disk stalls. Flushes, and reads and writes from
// a given position on, wait until the parent sends 'go'. The disk sends the parent 'mounted', and
// the name of each waiting request. After a while the disk exits by itself, which fails waiting
// requests: a blocked test then fails instead of hanging.
import { spawnSync } from 'node:child_process'
import { openSync, read, writeSync } from 'node:fs'

const SIZE = 1 << 20
// Opcodes from include/uapi/linux/fuse.h.
const LOOKUP = 1,
  FORGET = 2,
  GETATTR = 3,
  OPEN = 14,
  READ = 15,
  WRITE = 16,
  STATFS = 17,
  RELEASE = 18,
  FSYNC = 20,
  FLUSH = 25,
  INIT = 26,
  INTERRUPT = 36,
  BATCH_FORGET = 42
const names = { [READ]: 'read', [WRITE]: 'write', [FSYNC]: 'flush' }
const ENOSYS = 38

const [, , directory, from] = process.argv
const device = openSync('/dev/fuse', 'r+')
const options = 'fd=3,rootmode=40000,user_id=0,group_id=0'
const mounted = spawnSync('mount', ['-i', '-t', 'fuse', '-o', options, 'stalling', directory], {
  stdio: ['ignore', 'inherit', 'inherit', device],
})
if (mounted.status !== 0) process.exit(1)
process.send('mounted')

let stalled = true
const waiting = []
setTimeout(() => process.exit(1), 15_000).unref()
process.on('disconnect', () => process.exit())
process.on('message', () => {
  stalled = false
  for (const answer of waiting.splice(0)) answer()
})

const request = Buffer.alloc(1 << 18)
serve()

function serve() {
  read(device, request, 0, request.length, null, (error) => {
    if (error?.code === 'ENODEV') process.exit()
    if (error === null) {
      handle(
        request.readUInt32LE(4),
        request.readBigUInt64LE(8),
        Number(request.readBigUInt64LE(16)),
      )
    }
    serve()
  })
}

function handle(operation, unique, node) {
  const reply = (body, errno = 0) => {
    const head = Buffer.alloc(16)
    head.writeUInt32LE(16 + body.length)
    head.writeInt32LE(-errno, 4)
    head.writeBigUInt64LE(unique, 8)
    writeSync(device, Buffer.concat([head, body]))
  }
  const position = Number(request.readBigUInt64LE(48))
  const length = request.readUInt32LE(56)
  const later = (answer) => {
    if (!stalled || (operation !== FSYNC && position < Number(from))) return answer()
    waiting.push(answer)
    process.send(names[operation])
  }
  switch (operation) {
    case INIT: {
      const body = Buffer.alloc(64)
      body.writeUInt32LE(7)
      body.writeUInt32LE(31, 4)
      body.writeUInt32LE(1 << 17, 8)
      body.writeUInt32LE(1 << 17, 20)
      return reply(body)
    }
    case LOOKUP: {
      const body = Buffer.alloc(40)
      body.writeBigUInt64LE(2n)
      return reply(Buffer.concat([body, attributes(2)]))
    }
    case GETATTR:
      return reply(Buffer.concat([Buffer.alloc(16), attributes(node)]))
    case STATFS:
      return reply(Buffer.alloc(80))
    case OPEN:
      return reply(Buffer.alloc(16))
    case READ:
      // The file's content: each byte depends on its position.
      return later(() =>
        reply(
          Buffer.from(
            Uint8Array.from(
              { length: Math.min(length, SIZE - position) },
              (_, at) => (position + at) >>> 8,
            ),
          ),
        ),
      )
    case WRITE:
      return later(() => {
        const body = Buffer.alloc(8)
        body.writeUInt32LE(length)
        reply(body)
      })
    case FSYNC:
      return later(() => reply(Buffer.alloc(0)))
    case FLUSH:
    case RELEASE:
      return reply(Buffer.alloc(0))
    case FORGET:
    case BATCH_FORGET:
    case INTERRUPT:
      return
    default:
      return reply(Buffer.alloc(0), ENOSYS)
  }
}

function attributes(node) {
  const body = Buffer.alloc(88)
  body.writeBigUInt64LE(BigInt(node))
  body.writeBigUInt64LE(BigInt(SIZE), 8)
  body.writeUInt32LE(node === 1 ? 0o40755 : 0o100644, 60)
  body.writeUInt32LE(1, 64)
  body.writeUInt32LE(4096, 80)
  return body
}
