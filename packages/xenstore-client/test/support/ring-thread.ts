/**
 * A guest on its own thread. It sends many requests at once, again and again, while its nodes
 * change. Orders: number of rounds.
 */
import { data, report, thisDomain } from '../../../sim/test/support/threads/this-domain.ts'
import { openXenstore } from '../../src/index.ts'

const [rounds = 0] = data.orders
await using hv = thisDomain()
using xs = await openXenstore(hv.xenstore)
report('connected')
// Ping-pong with domain 0, which waits for each answer: a lost event stops both.
for (let round = 1; round <= rounds; round++) {
  await xs.wait(
    async (view) => (await view.readOptional('data/ping')) === String(round) || undefined,
  )
  await xs.write('data/pong', String(round))
}
// Then as many requests as the ring can carry.
const paths = Array.from({ length: 1500 }, (_, i) => `data/${i % 300}`)
await Promise.all(paths.map((path, i) => xs.write(path, `value ${i}`)))
const values = await Promise.all(paths.map((path) => xs.read(path)))
report(values.filter((value, i) => value !== `value ${1200 + (i % 300)}`).length)
