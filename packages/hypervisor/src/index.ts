export * from './arena.ts'
export * from './arguments.ts'
export * from './errors.ts'
export type * from './port.ts'
