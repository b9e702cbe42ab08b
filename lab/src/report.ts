/** Prints the results of a run and counts them. */

export class Report {
  #passed = 0
  #failed = 0

  get failed(): number {
    return this.#failed
  }

  /** Prints a line such as `ok  guest reads the disk, sha256 agrees  (1.2 s)`. */
  pass(what: string, seconds?: number): void {
    this.#passed++
    console.log(`ok    ${what}${seconds === undefined ? '' : `  (${seconds.toFixed(1)} s)`}`)
  }

  fail(what: string, why?: string): void {
    this.#failed++
    console.log(
      `FAIL  ${what}${why === undefined ? '' : `\n      ${why.replaceAll('\n', '\n      ')}`}`,
    )
  }

  note(text: string): void {
    console.log(text)
  }

  /** The last line of a run. */
  total(): string {
    return `${this.#passed} passed, ${this.#failed} failed`
  }
}
