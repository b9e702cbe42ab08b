/**
 * Thread that reads a node over its own xenstore connection, then waits until the connection ends.
 */
import { XsPacker, XsParser, XS } from '@xenkit/wire'
import { report, thisDomain } from './this-domain.ts'

const hv = thisDomain()
const parser = new XsParser((_type, _reqId, _txId, payload) =>
  report(new TextDecoder().decode(payload)),
)
const stream = await hv.xenstore.connect({
  data: (bytes) => parser.push(bytes),
  closed(reason) {
    report(reason.message)
  },
})
const packer = new XsPacker()
packer.append(XS.READ, 1, 0, 'name\0')
stream.write(packer.take())
