import { XenError } from '@xenkit/hypervisor'

/** The image can't be served. `details` has the path and the errno name, where there is one. */
export class ImageError extends XenError {
  constructor(
    message: string,
    details: { readonly path: string; readonly errno?: string },
    options?: ErrorOptions,
  ) {
    super('ERR_XEN_IMAGE', message, details, options)
  }
}
