import { LibvirtUsageError } from './errors.ts';

/**
 * Runs a listener. Its own mistake must stop neither the connection nor the other listeners: what it throws is thrown
 * again where Node.js reports uncaught exceptions.
 */
export function guarded(listener: () => void): void {
  try {
    listener();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** @throws {LibvirtUsageError} Not a function. */
export function checkListener(listener: unknown): void {
  if (typeof listener !== 'function')
    throw new LibvirtUsageError(`a listener must be a function, got ${typeof listener}`);
}
