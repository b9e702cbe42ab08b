export * from './cstruct.ts'
export * from './ctypes.ts'
