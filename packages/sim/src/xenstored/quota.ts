/**
 * What one unprivileged domain may use, by the names that GET_QUOTA and SET_QUOTA have. The values
 * are the defaults of C xenstored; 0 is no limit. Domain 0 has none.
 */
export const DEFAULT_QUOTA = {
  /** Nodes owned. */
  nodes: 1000,
  watches: 128,
  /**
   * Requests that were answered and of which the reply, or an event that they caused, hasn't been
   * delivered.
   */
  outstanding: 20,
  /** Bytes of nodes, transactions, watches and undelivered messages. */
  memory: 2.5 * 1024 * 1024,
  /** As `memory`, but passing it is only told of in the log. */
  'soft-memory': 2 * 1024 * 1024,
  /** Transactions open at a time. */
  transactions: 10,
  /** Nodes looked at or changed by one transaction. */
  'transaction-nodes': 1024,
  /** Permission entries of a node, its owner's included. */
  'node-permissions': 5,
  /** Bytes of a path, without a /local/domain/DOMID/ at its start. */
  'path-max': 2048,
  /** Bytes that a node has to stay below: header, permissions, value, names of its children. */
  'node-size': 2048,
}

export type Quota = typeof DEFAULT_QUOTA
export type QuotaName = keyof Quota

export const isQuotaName = (name: string): name is QuotaName => Object.hasOwn(DEFAULT_QUOTA, name)
