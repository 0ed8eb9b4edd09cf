/**
 * What an S3 store is told about where it is, and the limits within which it waits.
 */

/** One store of the configuration. */
export interface S3Settings {
  name: string;
  /** http(s) URL without a path. */
  endpoint: string;
  region: string;
  bucket: string;
  /** What every key of ours begins with in the bucket: empty, or ending with a slash. */
  prefix: string;
  /** Bucket in the path instead of in the host's name. */
  pathStyle: boolean;
  /** Read at each change of it. */
  credentialsFile: string;
  /** Certificates, PEM, that the server's has to be signed by, instead of those of the system. */
  caFile?: string | undefined;
}

export interface S3Limits {
  /** Deadline of a call that moves no object, unless its caller says otherwise, milliseconds. */
  callTimeoutMs: number;
  /** Deadline of a call that moves one, milliseconds. */
  transferTimeoutMs: number;
  /** One attempt at one request, milliseconds, besides the time for its bytes. */
  attemptMs: number;
  /** More of it for each key that a request removes, milliseconds: servers remove one after the other. */
  removeKeyMs: number;
  /** A connection that is slower than this, bytes a second, counts as stalled. */
  slowestBytesPerSecond: number;
  /** Silence between two pieces of an object, milliseconds. */
  idleMs: number;
  /** Attempts at one request, the first one counted. */
  attempts: number;
  /** Wait before the second attempt, milliseconds, at most; doubled before each further one. */
  firstPauseMs: number;
  /** Longest wait between two attempts, milliseconds. */
  longestPauseMs: number;
}

export const S3_LIMITS: S3Limits = {
  callTimeoutMs: 60_000,
  transferTimeoutMs: 24 * 3_600_000,
  attemptMs: 20_000,
  removeKeyMs: 100,
  slowestBytesPerSecond: 128 * 1024,
  idleMs: 20_000,
  attempts: 5,
  firstPauseMs: 250,
  longestPauseMs: 10_000,
};
