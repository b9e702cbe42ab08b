/** The errno with which xenstored refuses a request, in its ERROR reply. */
import type { XsdError } from '@xenkit/wire'

export class Refusal extends Error {
  readonly errno: XsdError

  constructor(errno: XsdError) {
    super(errno)
    this.name = 'Refusal'
    this.errno = errno
  }
}
