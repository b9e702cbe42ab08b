/** What one unprivileged domain may use: the defaults of C xenstored. Domain 0 has no limits. */

export const QUOTA = {
  /** Nodes owned. */
  nodes: 1000,
  watches: 128,
  /** Transactions open at a time. */
  transactions: 10,
  /** Nodes looked at or changed by one transaction. */
  transactionNodes: 1024,
  /** Permission entries of a node, its owner's included. */
  permissions: 5,
  /** Bytes that a node has to stay below: header, permissions, value, names of its children. */
  nodeSize: 2048,
} as const
