/**
 * A program that waits for one reply of xenstored over a ring, closes the connection, and should
 * then end by itself.
 */
import { XS, XsPacker } from '@xenkit/wire'
import { createMachine } from '../../src/index.ts'

const machine = createMachine()
machine.createDomain()
const guest = machine.createDomain({ xenstore: 'ring' })
const stream = await guest.xenstore.connect({
  data: () => {
    process.stdout.write('reply\n')
    stream.close()
  },
  closed: () => {},
})
const packer = new XsPacker()
packer.append(XS.READ, 1, 0, 'name\0')
setTimeout(() => stream.write(packer.take()), 300).unref()
