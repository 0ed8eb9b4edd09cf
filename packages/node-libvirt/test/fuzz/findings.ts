/**
 * What fuzzing has found, kept as named cases that run first.
 *
 * To add one: copy `type` and `bytes` from the failing run's message, and name what was wrong.
 */
export interface Finding {
  what: string;
  /** Type in the schema of what is decoded. */
  type: string;
  /** In hexadecimal digits. */
  bytes: string;
}

export const FINDINGS: readonly Finding[] = [];
