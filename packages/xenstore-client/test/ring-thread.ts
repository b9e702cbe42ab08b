/**
 * A guest on a thread of its own: asks for everything at once, again and again, while its nodes
 * change. Orders: rounds.
 */
import { data, report, thisDomain } from '../../sim/test/threads/this-domain.ts'
import { openXenstore } from '../src/index.ts'

const [rounds = 0] = data.orders
await using hv = thisDomain()
using xs = await openXenstore(hv.xenstore)
report('connected')
// One by one and in step with domain 0, which waits for each: a lost event shows as a halt.
for (let round = 1; round <= rounds; round++) {
  await xs.wait(
    async (view) => (await view.readOptional('data/ping')) === String(round) || undefined,
  )
  await xs.write('data/pong', String(round))
}
// Then as much as the ring carries.
const paths = Array.from({ length: 1500 }, (_, i) => `data/${i % 300}`)
await Promise.all(paths.map((path, i) => xs.write(path, `value ${i}`)))
const values = await Promise.all(paths.map((path) => xs.read(path)))
report(values.filter((value, i) => value !== `value ${1200 + (i % 300)}`).length)
