import { XenError } from '@xenkit/hypervisor'

/** What cards are to be plugged into can't be opened, or was lost. `details` has its name. */
export class LinkError extends XenError {
  constructor(
    message: string,
    details: { readonly name: string; readonly errno?: string },
    options?: ErrorOptions,
  ) {
    super('ERR_XEN_LINK', message, details, options)
  }
}
