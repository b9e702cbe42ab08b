/**
 * embedded SOCKET: xenkit's xenstored on a unix socket. The answer to each line on standard input
 * is the size of the program's heap in bytes.
 */
import { Xenstored } from '@xenkit/sim'
import { listenXenstored } from '@xenkit/sim/socket'
import { answerLines } from '../../../src/answer-lines.ts'

const [socket = ''] = process.argv.slice(2)
await using _listener = await listenXenstored(new Xenstored(), socket)
const { gc } = globalThis
if (!gc) throw new Error('this needs --expose-gc')
await answerLines(async () => {
  gc()
  return process.memoryUsage().heapUsed
})
