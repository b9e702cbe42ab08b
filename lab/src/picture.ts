/** Draws the pictures in docs/bench. A run that measures all figures of a picture redraws it. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Figure } from './figure.ts'
import { repository } from './paths.ts'
import { plot } from './plot.ts'

const pages = join(repository, 'docs/bench')

/**
 * Draws `NAME.svg`.
 * @param heading one line: what was measured, where and when
 */
export async function savePicture(
  name: string,
  o: { readonly heading: string; readonly figures: readonly Figure[]; readonly folder?: string },
): Promise<void> {
  const { heading, figures, folder = pages } = o
  await writeFile(join(folder, `${name}.svg`), plot(heading, figures))
}
