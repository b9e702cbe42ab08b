export { type FileStore, type FileStoreOptions, ImageError, openFileStore } from './file.ts'
export { memoryStore } from './memory.ts'
