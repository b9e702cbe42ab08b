/**
 * Thread of a guest that sends many requests at once, again and again, while its nodes change. Its
 * `orders`: the number of rounds.
 */
import { data, report, thisDomain } from '../../../sim/test/support/threads/this-domain.ts'
import { openXenstore } from '../../src/index.ts'

const [rounds = 0] = data.orders
await using hv = thisDomain()
using xs = await openXenstore(hv.xenstore)
report('connected')
// Take turns with domain 0: each side waits for the other's answer, so one lost event stops both.
for (let round = 1; round <= rounds; round++) {
  await xs.wait(
    async (view) => (await view.readOptional('data/ping')) === String(round) || undefined,
  )
  await xs.write('data/pong', String(round))
}
// Send as many requests at once as the ring can carry.
const paths = Array.from({ length: 1500 }, (_, i) => `data/${i % 300}`)
await Promise.all(paths.map((path, i) => xs.write(path, `value ${i}`)))
const values = await Promise.all(paths.map((path) => xs.read(path)))
report(values.filter((value, i) => value !== `value ${1200 + (i % 300)}`).length)
