export { GrantCopier } from './grant-copier.ts'
export { GrantTable, type GrantStats, type MapOptions } from './grant-table.ts'
export { PersistentGrants } from './persistent-grants.ts'
