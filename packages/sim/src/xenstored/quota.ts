/**
 * Default quotas of an unprivileged domain, by their names in GET_QUOTA and SET_QUOTA, with the
 * values of C xenstored. 0 means no limit. Domain 0 has no limits.
 */
export const DEFAULT_QUOTA = {
  /** Nodes that the domain owns. */
  nodes: 1000,
  watches: 128,
  /** Answered requests whose reply, or an event that they caused, isn't delivered yet. */
  outstanding: 20,
  /** Bytes of nodes, transactions, watches and undelivered messages. */
  memory: 2.5 * 1024 * 1024,
  /** A limit for `memory` that only causes a line in the log. */
  'soft-memory': 2 * 1024 * 1024,
  /** Transactions open at one time. */
  transactions: 10,
  /** Nodes that one transaction reads or changes. */
  'transaction-nodes': 1024,
  /** Permission entries of a node, including its owner's. */
  'node-permissions': 5,
  /** Bytes of a path, without a leading /local/domain/DOMID/. */
  'path-max': 2048,
  /** Bytes that a node must stay below: header, permissions, value and names of children. */
  'node-size': 2048,
}

export type Quota = typeof DEFAULT_QUOTA
export type QuotaName = keyof Quota

export const isQuotaName = (name: string): name is QuotaName => Object.hasOwn(DEFAULT_QUOTA, name)
