import { printable } from '@xenkit/hypervisor'

/**
 * Does what `printable` does for text of several lines, such as JSON or an error with its stack.
 */
export const printableLines = (text: string): string => text.split('\n').map(printable).join('\n')
