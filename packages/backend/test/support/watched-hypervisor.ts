/** A hypervisor that counts mapped pages and calls. */
import type { Hypervisor } from '@xenkit/hypervisor'
import { hooked } from './hooked-hypervisor.ts'

export class WatchedHypervisor {
  /** Pages mapped now. */
  pages = 0
  /** Number of calls so far. */
  maps = 0
  copies = 0
  /** Pages mapped at the time of each notification. */
  readonly pagesAtNotify: number[] = []

  readonly through = (dom0: Hypervisor): Hypervisor =>
    hooked(dom0, {
      bind: (bind, ...args) => {
        const binding = bind(...args)
        const notify = binding.notify.bind(binding)
        binding.notify = () => {
          this.pagesAtNotify.push(this.pages)
          notify()
        }
        return binding
      },
      mapped: (mapping) => this.#count(mapping, mapping.bytes.length / 4096),
      mappedPages: (pages) => this.#count(pages, pages.offsets.length),
      opened: (batch) => {
        for (const direction of ['copyIn', 'copyOut'] as const) {
          const copy = batch[direction].bind(batch)
          batch[direction] = (count) => {
            this.copies++
            return copy(count)
          }
        }
        return batch
      },
    })

  #count<T extends { close(): void }>(mapping: T, pages: number): T {
    const close = mapping.close.bind(mapping)
    let open = true
    this.maps++
    this.pages += pages
    mapping.close = () => {
      if (open) this.pages -= pages
      open = false
      close()
    }
    return mapping
  }
}
