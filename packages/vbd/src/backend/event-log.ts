/** Prints events of disks as log lines, at a bounded rate: no guest can flood the log. */
import { deviceLog, type PrintLine } from '@xenkit/backend'
import { vdevName } from '../vdev.ts'
import type { VbdEvent } from './vbd-event.ts'

/**
 * Makes a listener for `onEvent` of `serveVbd` that passes a line for each event to `print`. Within
 * a minute an error is printed once for each disk, a state four times. Repetitions are counted.
 * Their number is printed with the first event after that minute, or when the disk is removed.
 *
 * @param print prints a line; default: failures to stderr, other lines nowhere
 * @example
 * await serveVbd(hv, { store, onEvent: eventLog((line) => console.log(line)) })
 */
export const eventLog = (print?: PrintLine): ((event: VbdEvent) => void) =>
  deviceLog<VbdEvent>(
    {
      nameOf: ({ disk }) => `${vdevName(disk.devid)} of domain ${disk.frontendDomid}`,
      failures: {
        failed: '',
        'store-failed': 'the store failed a request: ',
        declined: 'left to other backends: ',
        refused: 'not changed: ',
      },
    },
    print,
  )
