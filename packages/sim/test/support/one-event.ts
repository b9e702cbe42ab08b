/**
 * A program that only waits for one event, sent by a timer that doesn't keep the process running.
 */
import { createMachine } from '../../src/index.ts'

const machine = createMachine()
const domain = machine.createDomain()
const one = domain.evtchn.bindUnbound({ domid: 0 }, () => {
  process.stdout.write('event\n')
  one.close()
  other.close()
})
const other = domain.evtchn.bindInterdomain({ domid: 0, port: one.port }, () => {})
setTimeout(() => other.notify(), 300).unref()
