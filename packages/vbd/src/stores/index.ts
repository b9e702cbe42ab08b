export { type DiscardRange, type FileStore, type FileStoreOptions, openFileStore } from './file.ts'
export { ImageError } from './image-error.ts'
export { type MemoryStore, memoryStore } from './memory.ts'
