export { ArenaShare } from './arena-share.ts'
export { GrantCopier } from './grant-copier.ts'
export { GrantTable, type GrantStats, type MapOptions } from './grant-table.ts'
export { PersistentGrants, type PersistentGrantsOptions } from './persistent-grants.ts'
