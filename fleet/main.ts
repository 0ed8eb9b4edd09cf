/**
 * npm run fleet -- [--agents N] [--full N] [--scenario NAME...] [--tls] [--json]
 *
 * Prints a table, or with --json one document. Exit code 1 when an event was lost or doubled, an instance is astray, or the
 * run came to nothing; 2 for usage. That a figure misses its goal is told and is no failure: it depends on the machine.
 */
import { CommanderError } from 'commander';
import { AgentError } from '../src/model/errors.ts';
import { type FleetOptions, readOptions } from './options.ts';
import { isSound, jsonOf, tableOf } from './report.ts';
import { runFleet } from './run.ts';

await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<void> {
  const options = readOrExplain(argv);
  if (options === null) return;
  const interrupt = new AbortController();
  const end = () => interrupt.abort();
  process.once('SIGINT', end);
  process.once('SIGTERM', end);
  try {
    const result = await runFleet(options, { signal: interrupt.signal, say });
    process.stdout.write(`${options.json ? jsonOf(result) : tableOf(result)}\n`);
    process.exitCode = isSound(result) ? 0 : 1;
  } catch (error) {
    const { message, hint } = AgentError.from(error).toBody();
    say(hint === undefined ? message : `${message}\n  ${hint}`);
    process.exitCode = 1;
  } finally {
    process.off('SIGINT', end);
    process.off('SIGTERM', end);
  }
}

function readOrExplain(argv: readonly string[]): FleetOptions | null {
  try {
    return readOptions(argv);
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? 0 : 2;
    return null;
  }
}

function say(words: string): void {
  process.stderr.write(`fleet: ${words}\n`);
}
