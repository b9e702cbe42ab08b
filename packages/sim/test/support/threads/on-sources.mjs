// Registers tsx, then runs the file that workerData names. In Node 20, `--import tsx` doesn't apply
// to the first file of a worker.
import { workerData } from 'node:worker_threads'
import { register } from 'tsx/esm/api'

register()
await import(new URL(workerData.file, import.meta.url).href)
