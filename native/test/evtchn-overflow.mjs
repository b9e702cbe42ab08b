/**
 * Prints the ports that a device delivers, until it delivers the event that this program sends. The
 * test runs this under strace, which makes one read fail.
 */
import { openSync, writeSync } from 'node:fs'
import { loadNative } from '../index.js'

const { Arena, Evtchn } = loadNative()
const path = process.argv[2] ?? ''
const arena = new Arena(2)
const table = arena.allocate(2)
const words = new Uint32Array(arena.createBuffer(), table, 1024)
const delivered = []
const evtchn = new Evtchn(arena, path, table, (count) => {
  delivered.push([count, [...words.subarray(0, count)]])
  if (count === 0) return
  evtchn.close()
  console.log(JSON.stringify(delivered))
})
// A bound port keeps the process alive.
evtchn.bindUnbound(1)
writeSync(openSync(path, 'r+'), Uint32Array.of(5))
