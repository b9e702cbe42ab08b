/**
 * A network behind passt: answers DNS queries for `server.example`, and serves 1 MiB by HTTP. The
 * scenario `vif` runs it in a network namespace.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:http'

const ADDRESS = '10.9.0.3'
const content = Uint8Array.from({ length: 1 << 20 }, (_, i) => Math.imul(i, 0x9e3779b1) >>> 24)

/** Answers a query of one question with the address; other types of it with no records. */
function answer(query: Buffer): Buffer {
  // The question ends with a type and a class of two bytes, after the name's last, empty label.
  const end = query.indexOf(0, 12) + 5
  const isAddress = query.readUInt16BE(end - 4) === 1
  const header = Buffer.from(query.subarray(0, 12))
  header.writeUInt16BE(0x8580, 2)
  header.writeUInt16BE(isAddress ? 1 : 0, 6)
  header.writeUInt32BE(0, 8)
  const record = Buffer.from([
    0xc0,
    12,
    0,
    1,
    0,
    1,
    0,
    0,
    0,
    60,
    0,
    4,
    ...ADDRESS.split('.').map(Number),
  ])
  return Buffer.concat([header, query.subarray(12, end), ...(isAddress ? [record] : [])])
}

const dns = createSocket('udp4')
dns.on('message', (query, from) => dns.send(answer(query), from.port, from.address))
dns.bind(53, ADDRESS)
await once(dns, 'listening')
const http = createServer((_, response) => response.end(content))
await once(http.listen(8000, ADDRESS), 'listening')
console.log('ready')
