/**
 * Specs checked before they are sent, so that a misspelt key is answered at once and with the file's name.
 *
 * The schemas are loaded here, on demand, and nowhere else on the way of a command that succeeds.
 */

import { AgentError } from '../model/errors.ts';
import type { MethodName } from '../model/methods.ts';
import { usageError } from './failure.ts';

/**
 * Checks the `spec` parameter of a method; the spec is sent as it was written.
 *
 * @param source Names where the spec is from, as in "examples/instance.json".
 * @throws {CliError} Exit code 2, with the place in the spec, what is allowed there, and the key that was meant.
 */
export async function checkSpec(method: MethodName, spec: unknown, source: string): Promise<void> {
  const [{ METHODS }, { parse }] = await Promise.all([
    import('../model/methods.ts'),
    import('../model/validate.ts'),
  ]);
  const schema = METHODS[method].params.properties;
  if (!('spec' in schema)) throw new Error(`${method} takes no spec`);
  try {
    parse(schema.spec, structuredClone(spec), `spec in ${source}`);
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    throw usageError(error.message, {
      cause: error,
      hint: 'Nothing was asked of the agent. `berth instance create --help` and the examples folder show what a spec holds.',
    });
  }
}
