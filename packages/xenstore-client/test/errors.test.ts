/** Error texts for requests that xenstored refuses: they name the quota if one was exceeded. */
import { XS } from '@xenkit/wire'
import { beforeEach, expect, test } from 'vitest'
import { openXenstore, type XenstoreClient } from '../src/index.ts'
import { ScriptedXenstored } from './support/scripted.ts'

let xenstored: ScriptedXenstored
let client: XenstoreClient

beforeEach(async () => {
  xenstored = new ScriptedXenstored()
  client = await openXenstore(xenstored)
})

const permissions = { owner: 0, access: 'none', acl: [] } as const
const quota = (name: string): string => `over the domain's quota of ${name}`

test.each<[string, () => Promise<unknown>, string]>([
  ['ENOSPC', () => client.write('/a', ''), quota('nodes, or of bytes in one')],
  ['EQUOTA', () => client.write('/a', ''), quota('nodes, or of bytes in one')],
  ['ENOSPC', () => client.mkdir('/a'), quota('nodes, or of bytes in one')],
  ['ENOSPC', () => client.setPerms('/a', permissions), quota('permissions of a node')],
  ['ENOSPC', () => client.read('/a'), quota('nodes in a transaction')],
  ['E2BIG', () => client.watch('/a').next(), quota('watches')],
  ['ENOSPC', () => client.watch('/a').next(), quota('watches')],
  ['EQUOTA', () => client.watch('/a').next(), quota('watches')],
  ['E2BIG', () => client.read('/a'), 'too much for one message'],
  ['ENOMEM', () => client.write('/a', ''), `${quota('memory')}, or xenstored has none left`],
])('%s of a request', async (errno, call, meaning) => {
  const refused = call()
  await Promise.resolve()
  const [request] = xenstored.sent
  xenstored.send(XS.ERROR, request?.reqId ?? 0, `${errno}|`)
  const message = expect.stringContaining(`"/a": ${errno} (${meaning})`)
  await expect(refused).rejects.toMatchObject({ errno, message })
})

test.each([
  ['ENOSPC', quota('nodes')],
  ['ENOMEM', 'one of its requests failed, or a domain whose nodes it changes is gone'],
])('%s of a commit', async (errno, meaning) => {
  const transaction = client.transaction(async () => {})
  while (xenstored.sent.length < 1) await Promise.resolve()
  xenstored.send(XS.TRANSACTION_START, xenstored.sent[0]?.reqId ?? 0, '7|')
  while (xenstored.sent.length < 2) await Promise.resolve()
  xenstored.send(XS.ERROR, xenstored.sent[1]?.reqId ?? 0, `${errno}|`)
  await expect(transaction).rejects.toThrow(`xenstore TRANSACTION_END "": ${errno} (${meaning})`)
})
