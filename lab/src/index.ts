/** What other tools of this repository use of the lab. */
export { atExit } from './at-exit.ts'
export { bundle } from './bundle.ts'
export { within } from './deadline.ts'
export { command } from './process.ts'
export { Report } from './report.ts'
export { median } from './median.ts'
export { XenstoredProcess } from './xenstored/xenstored-process.ts'
