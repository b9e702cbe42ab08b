/** A transmit ring's slots in flight as columns of a `RowTable`: no object is created per slot. */
import { RowTable } from '@xenkit/backend'

/** Bytes of a row: gref 4, offset 2, flags 2, id 2, size 2, extra 1, status 1. */
const ROW_BYTES = 14

/** A table of slots, a row for each. A slot holds a part of a packet, or an extra info about it. */
export class TxSlots extends RowTable {
  /** Grant reference of the part's page, then the part's first byte within that page. */
  readonly gref = this.column(Uint32Array)
  readonly offset = this.column(Uint16Array)
  /** Bits of NETTXF. */
  readonly flags = this.column(Uint16Array)
  /** Chosen by the guest, returned in the response. 0 for an extra info. */
  readonly id = this.column(Uint16Array)
  /** Bytes of the part. For a packet's first part, this is known once its last part has come. */
  readonly size = this.column(Uint16Array)
  /** 1 for an extra info, whose columns above have no meaning. */
  readonly extra = this.column(Uint8Array)
  /** A NETIF_RSP to answer with. */
  readonly status = this.column(Int8Array)

  constructor(rows: number) {
    super(rows, ROW_BYTES)
  }
}
