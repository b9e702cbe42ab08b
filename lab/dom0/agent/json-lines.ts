/** JSON objects, one per line of text, read from a byte stream in arbitrary chunks. */
import { StringDecoder } from 'node:string_decoder'

export function encodeLine(value: object): string {
  return `${JSON.stringify(value)}\n`
}

/** Returns a function that takes chunks and calls `onLine` for each completed line. */
export function lineReader(onLine: (line: string) => void): (chunk: Buffer | string) => void {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  return (chunk) => {
    const lines = (rest + decoder.write(chunk)).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) onLine(line)
  }
}
