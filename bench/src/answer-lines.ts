/** For a benchmark's program in TypeScript: answers the requests that `Program` sends. */
import { createInterface } from 'node:readline'

/**
 * Prints that the program is ready, then answers one request after another until standard input
 * ends.
 */
export async function answerLines(answer: (request: string) => Promise<unknown>): Promise<void> {
  console.log('ready')
  for await (const request of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await answer(request)))
  }
}
