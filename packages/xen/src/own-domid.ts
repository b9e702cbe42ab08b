/** Finds this domain's id. Xen doesn't tell a domain its id; xenstore does. */
import { readFile } from 'node:fs/promises'
import { DOMID_MAX, NotAvailableError, type XenstorePort } from '@xenkit/hypervisor'
import { XS, XsPacker, XsParser } from '@xenkit/wire'

/** Milliseconds to wait for xenstored's answer. A running xenstored answers in less than one. */
const PATIENCE = 10_000
const REQUEST_ID = 1

/** Whether this is domain 0 according to xenfs; false if xenfs isn't mounted. */
export async function isControlDomain(): Promise<boolean> {
  const capabilities = await readFile('/proc/xen/capabilities', 'latin1').catch(() => '')
  return capabilities.includes('control_d')
}

/**
 * Returns the id of this domain.
 * @throws NotAvailableError if xenstored isn't running, doesn't answer, or doesn't know the id
 */
export async function ownDomid(xenstore: XenstorePort): Promise<number> {
  return (await isControlDomain()) ? 0 : readDomid(xenstore)
}

/**
 * Reads the node "domid", whose path is relative to the home of the domain that asks.
 * @throws NotAvailableError as `ownDomid` does
 */
export async function readDomid(xenstore: XenstorePort): Promise<number> {
  const text = await ask(xenstore)
  const domid = Number(text)
  if (!/^\d{1,5}$/.test(text) || domid > DOMID_MAX) {
    throw new NotAvailableError(
      `xenstore node "domid" expected a domid, got ${JSON.stringify(text)}`,
    )
  }
  return domid
}

function ask(xenstore: XenstorePort): Promise<string> {
  return new Promise((resolve, reject) => {
    const parser = new XsParser((type, reqId, _txId, payload) => {
      if (reqId !== REQUEST_ID) return
      const text = new TextDecoder().decode(payload)
      if (type === XS.READ) finish(() => resolve(text))
      else {
        fail(
          new NotAvailableError(
            `xenstored doesn't tell this domain its id: reading "domid" gave ${JSON.stringify(text)}`,
          ),
        )
      }
    })
    const timer = setTimeout(
      () =>
        fail(
          new NotAvailableError(
            `xenstored didn't answer in ${PATIENCE / 1000} seconds: check that it is running`,
          ),
        ),
      PATIENCE,
    )
    const connected = xenstore.connect({
      data: (bytes) => parser.push(bytes),
      closed: (reason) => fail(reason),
    })
    const finish = (settle: () => void): void => {
      clearTimeout(timer)
      connected
        .then(
          (stream) => stream.close(),
          () => {},
        )
        .finally(settle)
    }
    const fail = (reason: unknown): void => finish(() => reject(reason))
    const packer = new XsPacker()
    packer.append(XS.READ, REQUEST_ID, 0, 'domid\0')
    connected.then((stream) => stream.write(packer.take()), fail)
  })
}
