// First file of every thread that xenkit starts: imports the module that workerData names. It is
// plain JavaScript because in Node 20 no TypeScript loader applies to a thread's first file. For
// later imports, a loader must be registered in the thread.
import { workerData } from 'node:worker_threads'

const { module, loader } = workerData
if (loader !== undefined) (await import(loader)).register()
await import(module)
