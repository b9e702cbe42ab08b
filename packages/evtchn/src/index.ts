export { EventChannel, type WaitOptions } from './event-channel.ts'
