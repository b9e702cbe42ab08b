export type { FrontendFeatures, FrontendRings, PublishedQueue } from './nodes.ts'
