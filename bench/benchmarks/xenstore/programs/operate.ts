/**
 * operate LEVELS: the embedded store with so many levels of nodes, ten children to a node, asked by our client in
 * the same process. Asked for `OPERATION SECONDS`, it tells how many a second it did in these.
 */
import { createMachine } from '@xenkit/sim'
import { openXenstore } from '@xenkit/xenstore-client'
import { answerLines } from '../../../src/answer-lines.ts'
import { rate } from '../../../src/rate.ts'

const FAN_OUT = 10
const DEPTH = 64

/** All nodes of a level. */
function nodesOf(level: number): string[] {
  if (level === 0) return ['/bench']
  return nodesOf(level - 1).flatMap((parent) => Array.from({ length: FAN_OUT }, (_, index) => `${parent}/${index}`))
}

/** Any of the nodes at positions lane, lane + DEPTH, lane + 2 * DEPTH ...: two lanes never choose the same. */
function choose(nodes: readonly string[], lane: number): string {
  return nodes[Math.floor(Math.random() * Math.floor(nodes.length / DEPTH)) * DEPTH + lane] ?? ''
}

const levels = Number(process.argv[2])
const [parents, leaves] = [nodesOf(levels - 1), nodesOf(levels)]
using xs = await openXenstore(createMachine().createDomain().xenstore)
await Promise.all(leaves.map((leaf) => xs.write(leaf, '0')))

const operations: Readonly<Record<string, (lane: number) => Promise<unknown>>> = {
  list: (lane) => xs.list(choose(parents, lane)),
  read: (lane) => xs.read(choose(leaves, lane)),
  transaction: (lane) =>
    xs.transaction(async (view) => {
      const leaf = choose(leaves, lane)
      await view.write(leaf, String(Number(await view.read(leaf)) + 1))
    }),
}

await answerLines(async (request) => {
  const [name = '', seconds] = request.split(' ')
  const operation = operations[name]
  if (!operation) throw new Error(`no operation is named "${name}"`)
  return { rate: await rate({ seconds: Number(seconds), depth: DEPTH }, operation) }
})
