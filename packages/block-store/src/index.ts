export * from './block-store.ts'
export * from './hints.ts'
export * from './store-batch.ts'
