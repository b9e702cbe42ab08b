import { printable } from '@xenkit/hypervisor'

/**
 * Escapes text of several lines, such as JSON or an error with its stack, line by line as
 * `printable` does.
 */
export const printableLines = (text: string): string => text.split('\n').map(printable).join('\n')
