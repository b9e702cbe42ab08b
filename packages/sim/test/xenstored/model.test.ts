/**
 * Random requests by three domains, in and out of transactions: xenstored answers as its model
 * does.
 */
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { Xenstored } from '../../src/xenstored/index.ts'
import { RawXenstore } from '../support/raw-xenstore.ts'
import { Begin, Direct, DOMIDS, End, SetWatch, Within } from '../support/xenstored-commands.ts'
import { type Operation, XenstoreModel } from '../support/xenstored-model.ts'

const domid = fc.constantFrom(...DOMIDS)
// Few paths, so that the requests often affect the same nodes.
const path = fc.constantFrom('/a', '/b', '/a/a', '/a/b', '/b/a', '/a/a/a')
const letter = fc.constantFrom<'n' | 'r' | 'w' | 'b'>('n', 'r', 'w', 'b')
const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'read' as const,
        'list' as const,
        'mkdir' as const,
        'rm' as const,
        'getPerms' as const,
      ),
      path,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      path,
      value: fc.constantFrom('1', '2', ''),
    }),
  },
  fc.record({
    kind: fc.constant('setPerms' as const),
    path,
    owner: domid,
    others: letter,
    acl: fc.array(fc.tuple(domid, letter), { maxLength: 2 }),
  }),
)

test('replies and events match the model, and transactions are serializable', async () => {
  const which = fc.nat(2)
  const direct = fc.tuple(domid, operation).map(([id, op]) => new Direct(id, op))
  const within = fc.tuple(which, operation).map(([i, op]) => new Within(i, op))
  const end = fc
    .tuple(which, fc.constantFrom<'T' | 'F'>('T', 'T', 'T', 'F'))
    .map(([i, verdict]) => new End(i, verdict))
  const commands = fc.commands(
    [
      direct,
      direct,
      direct,
      within,
      within,
      within,
      end,
      domid.map((id) => new Begin(id)),
      fc.tuple(domid, path).map(([id, at]) => new SetWatch(id, at)),
    ],
    { maxCommands: 150, size: 'max' },
  )
  const property = fc.asyncProperty(commands, async (sequence) => {
    const xenstored = new Xenstored()
    for (const id of DOMIDS) xenstored.introduceDomain(id)
    const clients = new Map(DOMIDS.map((id) => [id, new RawXenstore(xenstored, id)]))
    await clients.get(0)?.rm('/tool') // the model's tree has no /tool
    await clients.get(0)?.setPerms('/', 'b0')
    const store = new XenstoreModel()
    store.root.others = 'b'
    await fc.asyncModelRun(
      () => ({
        model: { store, changes: 0, transactions: [], watches: new Map() },
        real: { clients, transactions: [] },
      }),
      sequence,
    )
  })
  await expect(fc.assert(property, { numRuns: 300 })).resolves.toBeUndefined()
})
