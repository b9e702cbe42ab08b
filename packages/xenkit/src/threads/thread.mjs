// First file of every thread that xenkit starts: imports the module that
// workerData names. Plain JavaScript, because in Node 20 no loader of TypeScript reaches a thread's
// first file, nor, without being registered in that thread, what it imports.
import { workerData } from 'node:worker_threads'

const { module, loader } = workerData
if (loader !== undefined) (await import(loader)).register()
await import(module)
