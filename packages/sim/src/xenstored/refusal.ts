/** Why xenstored refuses a request: becomes the request's ERROR reply. */
import type { XsdError } from '@xenkit/wire'

export class Refusal extends Error {
  readonly errno: XsdError

  constructor(errno: XsdError) {
    super(errno)
    this.name = 'Refusal'
    this.errno = errno
  }
}
