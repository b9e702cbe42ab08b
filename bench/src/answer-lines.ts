/** The other side of `Program`, for programs in TypeScript. */
import { createInterface } from 'node:readline'

/**
 * Tells that the program is ready, and answers one request after the other until there are no more.
 */
export async function answerLines(answer: (request: string) => Promise<unknown>): Promise<void> {
  console.log('ready')
  for await (const request of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await answer(request)))
  }
}
