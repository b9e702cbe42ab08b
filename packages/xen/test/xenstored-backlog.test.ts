import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { connectSocket } from '../src/xenstored-socket.ts'

/**
 * A server whose queue of connections is as small as xenstored's. It accepts no connection until
 * the test writes to its standard input.
 */
const busyServer = `
  const { readSync } = require('node:fs')
  const server = require('node:net').createServer(() => {})
  server.listen({ path: process.argv[1], backlog: 1 }, () => {
    process.stdout.write('listening')
    readSync(0, Buffer.alloc(1))
  })
`

test("connecting waits while xenstored's queue of connections is full", async () => {
  const directory = mkdtempSync(join(tmpdir(), 'xenkit-'))
  const path = join(directory, 'socket')
  const server = spawn(process.execPath, ['-e', busyServer, path], { stdio: 'pipe' })
  const sockets: Socket[] = []
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.kill()
    rmSync(directory, { recursive: true })
  })
  await once(server.stdout, 'data')

  for (let refused = false; !refused;) {
    const socket = createConnection(path)
    sockets.push(socket)
    refused = await once(socket, 'connect').then(
      () => false,
      (error) => error.code === 'EAGAIN',
    )
  }
  const connecting = connectSocket(path).then((socket) => sockets.push(socket))
  server.stdin.write('.')
  await connecting
  expect(sockets.at(-1)?.readyState).toBe('open')
})
