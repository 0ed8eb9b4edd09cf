/**
 * What every driver call has in common: a deadline, a signal, and the words for doubt.
 *
 * A driver answers with the truth of the host, or throws an AgentError: UNAVAILABLE when the host could
 * not be asked, never "absent" or "stopped" on a failed call (promise 2).
 */

/** Each call has its own deadline: the driver's named default, or what is given here. */
export interface CallOptions {
  /** Milliseconds. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** What a long call does right now. */
export type ProgressPhase =
  | 'fetching'
  | 'unpacking'
  | 'converting'
  | 'checking'
  | 'copying'
  | 'writing'
  | 'merging';

/** Progress of a long call, in each phase from 0 to `totalBytes`; null while the total is not known. */
export type ProgressListener = (doneBytes: number, totalBytes: number | null, phase?: ProgressPhase) => void;

/** Ends a subscription; harmless when called again. */
export type Unsubscribe = () => void;

/** How all data of a disk is brought into its own file, wherever that is done. */
export interface FlattenOptions {
  /** Bytes that are written in a second at most. @default null, as fast as it goes */
  bytesPerSecond?: number | null;
  onProgress?: ProgressListener;
}
