/**
 * A program that waits for one event and does nothing else. The timer that sends the event doesn't
 * keep the process running, so the waiting must.
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
