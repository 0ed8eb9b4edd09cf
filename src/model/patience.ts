/**
 * How long an agent waits for the answer to its dial, and how it says so: a gateway that has a whole fleet before it lets in
 * who waits, one after the other, and needs nobody to come twice.
 *
 * @see RFC 7240, 4.3: the preference `wait`
 */

/** The header of the upgrade. */
export const PREFER = 'prefer';
/** Seconds that an agent waits where it has one address: as long as a link may be silent before it is given up. */
export const LONG_WAIT_SECONDS = 30;
/** Seconds that it waits where it has others, which may be better. */
export const SHORT_WAIT_SECONDS = 10;
/** What is believed at most, seconds. */
const PATIENCE_LIMIT_SECONDS = 60;

/** The value of `Prefer`. */
export function preferWait(seconds: number): string {
  return `wait=${seconds}`;
}

/** Milliseconds that the caller says it waits; null where it does not say. */
export function patienceOf(prefer: string | readonly string[] | undefined): number | null {
  const [, seconds] = /(?:^|[,;\s])wait\s*=\s*"?(\d{1,5})\b/i.exec(String(prefer ?? '')) ?? [];
  return seconds === undefined ? null : Math.min(Number(seconds), PATIENCE_LIMIT_SECONDS) * 1000;
}
