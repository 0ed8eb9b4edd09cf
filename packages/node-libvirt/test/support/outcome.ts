/** What a call that has to fail was rejected with. */
import { LibvirtTransportError } from '../../src/errors.ts';

export async function failureOf(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
  throw new Error('expected a failure, got none');
}

/** The kind of a transport error; any other error is thrown on. */
export async function kindOf(promise: Promise<unknown>): Promise<string> {
  const error = await failureOf(promise);
  if (!(error instanceof LibvirtTransportError)) throw error;
  return error.kind;
}
