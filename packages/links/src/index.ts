export { type Cable, openCable } from './cable.ts'
