/** Warms up, idles for two minutes, collects garbage, and prints how many disks were open. */
import { loadNative } from '../../../../../native/index.js'
import { warmUp } from '../../../src/index.ts'

const { setTimeout } = globalThis
/** Returns the number of open memory disks in this process. */
const open = (): number => loadNative().counters().images
const collect = global.gc
if (!collect) throw new Error('run it with --expose-gc')

// Makes timers run a thousand times as fast, because buffers are freed after an idle minute.
globalThis.setTimeout = Object.assign(
  (call: () => void, ms = 0) => setTimeout(call, ms / 1000),
  setTimeout,
)
const before = open()
const warm = await warmUp({ name: 'xen' })
const meanwhile = open()
console.log('warm')
await new Promise((resolve) => setTimeout(resolve, 200))
// V8 drops the code of a class without objects at its second collection.
for (let i = 0; i < 5; i++) {
  await new Promise((resolve) => setTimeout(resolve, 20))
  collect()
}
console.log('collected')
await warm[Symbol.asyncDispose]()
console.log(JSON.stringify({ before, meanwhile, after: open() }))
