/** embedded SOCKET: the embedded store on a unix socket. Answers nothing. */
import { Xenstored } from '@xenkit/sim'
import { listenXenstored } from '@xenkit/sim/socket'
import { answerLines } from '../../../src/answer-lines.ts'

const [socket = ''] = process.argv.slice(2)
await using _listener = await listenXenstored(new Xenstored(), socket)
await answerLines(async () => null)
