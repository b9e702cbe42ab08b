export type { FrontendFeatures, FrontendRings, PublishedQueue } from './nodes.ts'
export type { VifStats } from './backend/stats.ts'
export { cardLog, type ServedCard, type VifEvent } from './backend/vif-event.ts'
export type { RequestedCard } from './requested-card.ts'
