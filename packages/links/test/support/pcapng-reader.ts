/** Reads pcapng as its specification says, strictly, without the code under test. */

export interface ReadPacket {
  readonly interfaceId: number
  /** Nanoseconds since 1970. */
  readonly time: bigint
  readonly direction: 'inbound' | 'outbound' | undefined
  readonly originalLength: number
  readonly data: number[]
}

export interface ReadInterface {
  readonly name: string | undefined
  readonly snaplen: number
  readonly linktype: number
  /** Last statistics. */
  received?: bigint
  dropped?: bigint
}

export interface ReadCapture {
  readonly interfaces: ReadInterface[]
  readonly packets: ReadPacket[]
  /** `dropped` of each block of statistics, beside the number of packets before it. */
  readonly drops: { packets: number; dropped: bigint | undefined }[]
}

export function readPcapng(file: Buffer): ReadCapture {
  const capture: ReadCapture = { interfaces: [], packets: [], drops: [] }
  for (let at = 0; at < file.length;) {
    const type = file.readUInt32LE(at)
    const length = file.readUInt32LE(at + 4)
    if (length % 4 !== 0 || length < 12 || at + length > file.length) {
      throw new Error(`block of type ${type} at ${at} has ${length} bytes`)
    }
    if (file.readUInt32LE(at + length - 4) !== length) throw new Error(`lengths differ at ${at}`)
    const body = file.subarray(at + 8, at + length - 4)
    if ((at === 0) !== (type === 0x0a0d0d0a)) throw new Error(`no single section header, at ${at}`)
    readBlock(capture, type, body)
    at += length
  }
  return capture
}

function readBlock(capture: ReadCapture, type: number, body: Buffer): void {
  switch (type) {
    case 0x0a0d0d0a:
      if (body.readUInt32LE(0) !== 0x1a2b3c4d) throw new Error('byte order')
      if (body.readUInt32LE(4) !== 1) throw new Error("version isn't 1.0")
      optionsOf(body.subarray(16))
      return
    case 1: {
      const options = optionsOf(body.subarray(8))
      if (options.get(9)?.[0] !== 9) throw new Error("timestamps aren't in nanoseconds")
      capture.interfaces.push({
        linktype: body.readUInt16LE(0),
        snaplen: body.readUInt32LE(4),
        name: options.get(2)?.toString(),
      })
      return
    }
    case 5: {
      const options = optionsOf(body.subarray(12))
      const stats = {
        received: options.get(4)?.readBigUInt64LE(),
        dropped: options.get(5)?.readBigUInt64LE(),
      }
      Object.assign(interfaceOf(capture, body.readUInt32LE(0)), stats)
      capture.drops.push({ packets: capture.packets.length, dropped: stats.dropped })
      return
    }
    case 6: {
      const interfaceId = body.readUInt32LE(0)
      interfaceOf(capture, interfaceId)
      const captured = body.readUInt32LE(12)
      const end = 20 + captured + ((4 - (captured % 4)) % 4)
      if (body.subarray(20 + captured, end).some((byte) => byte !== 0)) throw new Error('padding')
      const flags = optionsOf(body.subarray(end)).get(2)?.readUInt32LE() ?? 0
      capture.packets.push({
        interfaceId,
        time: (BigInt(body.readUInt32LE(4)) << 32n) | BigInt(body.readUInt32LE(8)),
        direction: ([undefined, 'inbound', 'outbound'] as const)[flags & 3],
        originalLength: body.readUInt32LE(16),
        data: [...body.subarray(20, 20 + captured)],
      })
      return
    }
    default:
      throw new Error(`block of type ${type}`)
  }
}

function interfaceOf({ interfaces }: ReadCapture, id: number): ReadInterface {
  const found = interfaces[id]
  if (!found) throw new Error(`interface ${id} isn't described yet`)
  return found
}

/** Options by code. They may be missing altogether; if not, they have an end, which is last. */
function optionsOf(bytes: Buffer): Map<number, Buffer> {
  const options = new Map<number, Buffer>()
  let at = 0
  while (at < bytes.length) {
    const code = bytes.readUInt16LE(at)
    const length = bytes.readUInt16LE(at + 2)
    at += 4 + length + ((4 - (length % 4)) % 4)
    if (at > bytes.length) throw new Error(`option ${code} is longer than its block`)
    if (code === 0) {
      if (at !== bytes.length) throw new Error('something follows the end of the options')
      break
    }
    options.set(
      code,
      bytes.subarray(at - length - ((4 - (length % 4)) % 4), at).subarray(0, length),
    )
  }
  return options
}
