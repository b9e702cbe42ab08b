/** The guests' side of a backend's answers, in the moment in which they are sent. */
import type { EvtchnBinding, Hypervisor } from '@xenkit/hypervisor'
import { hooked } from './hooked-hypervisor.ts'

/**
 * Runs the guests' side of each answer at once, when the backend sends the event that each of these
 * guests asks for.
 */
export class Crowd {
  readonly #guests = new Map<number, () => void>()

  /** Sets what runs when the backend has sent a guest an event. */
  onAnswer(domid: number, run: () => void): void {
    this.#guests.set(domid, run)
  }

  readonly through = (dom0: Hypervisor): Hypervisor =>
    hooked(dom0, { bind: (bind, o, onEvent) => this.#watch(o.domid, bind(o, onEvent)) })

  #watch(domid: number, binding: EvtchnBinding): EvtchnBinding {
    const notify = binding.notify.bind(binding)
    binding.notify = () => {
      notify()
      this.#guests.get(domid)?.()
    }
    return binding
  }
}
