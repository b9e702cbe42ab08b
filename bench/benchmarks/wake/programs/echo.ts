/** echo PORT: notifies the guest whenever it is notified, through the event channel of a device. */
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
