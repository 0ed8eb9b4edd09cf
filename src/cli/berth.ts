/**
 * `berth`, the operator's command line, as a function: arguments and a process in, an exit code out.
 */

import { VERSION } from '../model/version.ts';
import { CLIENT_LIMITS, Client, type ClientLimits, DEFAULT_SOCKET_PATH } from './client.ts';
import { treeFor } from './commands/tree.ts';
import { EXIT, type ExitCode, type Report, reportOf, usageError } from './failure.ts';
import type { Io } from './io.ts';
import { type Head, isGroup } from './leaf.ts';
import { buildProgram, type Choice } from './program.ts';
import { document } from './render/json.ts';
import { paintFor } from './render/style.ts';
import { clean } from './render/text.ts';
import { Session } from './session.ts';

/**
 * Runs one command line.
 *
 * @param argv Arguments without the interpreter and the program.
 * @returns The exit code, as src/cli/failure.ts documents it. Never throws for what an operator, an agent or a guest does.
 */
export async function main(
  argv: readonly string[],
  io: Io,
  limits: ClientLimits = CLIENT_LIMITS,
): Promise<ExitCode> {
  const chosen = await choose(argv, io);
  if (typeof chosen === 'number') return chosen;
  const { leaf, given, globals } = chosen;
  const socketPath = globals.socket || io.env['BERTH_SOCKET'] || DEFAULT_SOCKET_PATH;
  const client = new Client({ socketPath, clock: io.clock, limits });
  const session = new Session({ io, client, format: globals.json ? 'json' : 'people' });
  try {
    return await leaf.run(session, given);
  } catch (error) {
    if (io.env['BERTH_DEBUG']) traceback(error, io);
    const streams = leaf.name === 'events';
    return tell(reportOf(error, leaf.doing(given)), io, globals.json && !streams);
  }
}

function traceback(error: unknown, io: Io): void {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  for (const line of text.split('\n')) io.stderr.write(`${clean(line)}\n`);
}

/** The command that the line names, or the exit code where it is already dealt with. */
async function choose(argv: readonly string[], io: Io): Promise<Choice | ExitCode> {
  const tree = await treeFor(argv);
  const json = argv.includes('--json');
  let chosen: Choice | undefined;
  const write = {
    out: (text: string) =>
      io.stdout.write(text === `berth ${VERSION}\n` && json ? document({ version: VERSION }) : text),
    err: (text: string) => io.stderr.write(text),
  };
  try {
    buildProgram(tree, write, (choice) => {
      chosen = choice;
    }).parse(argv, { from: 'user' });
  } catch (error) {
    return tellUsage(error, commandPath(argv, tree), io, json);
  }
  if (chosen === undefined) throw new Error('a command line was parsed and chose nothing');
  return chosen;
}

function tellUsage(error: unknown, path: readonly string[], io: Io, json: boolean): ExitCode {
  const { code, exitCode } = error as { code?: unknown; exitCode?: unknown };
  if (typeof code !== 'string' || !code.startsWith('commander.')) throw error;
  if (exitCode === 0) return EXIT.done;
  if (code === 'commander.help') {
    if (json)
      io.stdout.write(document({ error: { code: 'INVALID_ARGUMENT', message: 'a command is missing' } }));
    return EXIT.usage;
  }
  const [first = '', meant] = (error as Error).message.replace(/^error: /, '').split('\n');
  const help = `\`${['berth', ...path, '--help'].join(' ')}\` shows what there is.`;
  const hint = meant === undefined ? help : `${meant.replace(/^\((.*)\)$/, '$1')} ${help}`;
  return tell(reportOf(usageError(`Cannot run this: ${first}`, { hint }), ''), io, json);
}

/** The words of the line that name a command, for help. */
function commandPath(argv: readonly string[], tree: readonly Head[]): string[] {
  const path: string[] = [];
  let nodes = tree;
  for (const word of argv) {
    const node = nodes.find(({ name }) => name === word);
    if (node === undefined) continue;
    path.push(node.name);
    if (!isGroup(node)) break;
    nodes = node.commands;
  }
  return path;
}

function tell(report: Report, io: Io, json: boolean): ExitCode {
  const paint = paintFor(io.stderr, io.env);
  if (json) io.stdout.write(document(report.document));
  io.stderr.write(`${paint('berth:', 'bad')} ${clean(report.message)}\n`);
  if (report.hint !== '') io.stderr.write(`  ${paint('hint:', 'strong')} ${clean(report.hint)}\n`);
  return report.exit;
}
