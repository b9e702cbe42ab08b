/**
 * operate LEVELS: xenkit's client and xenstored in one process. The store has LEVELS levels of
 * nodes, with ten children per node. Each line on standard input is `OPERATION SECONDS`. The answer
 * is the number of operations per second.
 */
import { createMachine } from '@xenkit/sim'
import { openXenstore } from '@xenkit/xenstore-client'
import { answerLines } from '../../../src/answer-lines.ts'
import { rate } from '../../../src/rate.ts'

const FAN_OUT = 10
const DEPTH = 64

/**
 * The path of node `number` of a level: the digits of the number are the names along the path. The
 * path is built anew each time, as programs build paths.
 */
function node(level: number, number: number): string {
  let path = ''
  for (let rest = number, depth = 0; depth < level; depth++, rest = Math.floor(rest / FAN_OUT)) {
    path = `/${rest % FAN_OUT}${path}`
  }
  return `/bench${path}`
}

/**
 * Returns the path of a random node whose number modulo DEPTH is `lane`. So two lanes, which run
 * concurrently, never choose the same node.
 */
function choose(level: number, lane: number): string {
  return node(
    level,
    Math.floor(Math.random() * Math.floor(FAN_OUT ** level / DEPTH)) * DEPTH + lane,
  )
}

const levels = Number(process.argv[2])
using xs = await openXenstore(createMachine().createDomain().xenstore)
await Promise.all(
  Array.from({ length: FAN_OUT ** levels }, (_, number) => xs.write(node(levels, number), '0')),
)

const operations: Readonly<Record<string, (lane: number) => Promise<unknown>>> = {
  list: (lane) => xs.list(choose(levels - 1, lane)),
  read: (lane) => xs.read(choose(levels, lane)),
  transaction: (lane) =>
    xs.transaction(async (view) => {
      const leaf = choose(levels, lane)
      await view.write(leaf, String(Number(await view.read(leaf)) + 1))
    }),
}

await answerLines(async (request) => {
  const [name = '', seconds] = request.split(' ')
  const operation = operations[name]
  if (!operation) throw new Error(`no operation is named "${name}"`)
  return { rate: await rate({ seconds: Number(seconds), depth: DEPTH }, operation) }
})
