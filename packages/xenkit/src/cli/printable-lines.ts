import { printable } from '@xenkit/hypervisor'

/** As `printable`, for text of several lines: JSON, or an error with its stack. */
export const printableLines = (text: string): string => text.split('\n').map(printable).join('\n')
