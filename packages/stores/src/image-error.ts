import { XenError } from '@xenkit/hypervisor'

/** An image can't be served. `details` has its path, and the errno name if there is one. */
export class ImageError extends XenError {
  constructor(
    message: string,
    details: { readonly path: string; readonly errno?: string },
    options?: ErrorOptions,
  ) {
    super('ERR_XEN_IMAGE', message, details, options)
  }
}
