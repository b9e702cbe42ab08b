/**
 * echo PORT: notifies the guest each time the guest notifies it, through xenkit's event channels.
 */
import { EventChannel } from '@xenkit/evtchn'
import { openHypervisor } from 'xenkit'
import { answerLines } from '../../../src/answer-lines.ts'

await using hv = await openHypervisor({ adapter: 'xen' })
using channel = EventChannel.bindInterdomain(hv.evtchn, { domid: 1, port: Number(process.argv[2]) })
channel.handle(
  () => channel.notify(),
  (error) => {
    throw error
  },
)
await answerLines(async () => undefined)
