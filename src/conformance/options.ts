/**
 * The command line of berth-conformance: read and checked once.
 */
import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError, Option } from 'commander';
import { VERSION } from '../model/version.ts';
import { AGENT_CLAUSES } from './agent/clauses.ts';
import { excerpt } from './clause.ts';
import { SCHEDULER_CLAUSES } from './scheduler/clauses.ts';

export type Side = 'agent' | 'scheduler';

export interface CommandLine {
  side: Side;
  /** Where the kit listens for the agent that is tried. */
  listen: { host: string; port: number };
  /** Of the scheduler that is tried. */
  url: string;
  token: string | null;
  only: readonly string[];
  changes: boolean;
  json: boolean;
}

const IDS: Record<Side, readonly string[]> = {
  agent: AGENT_CLAUSES.map(({ id }) => id),
  scheduler: SCHEDULER_CLAUSES.map(({ id }) => id),
};

/** @throws {CommanderError} for what is not allowed, or where help was asked for. */
export function readCommandLine(
  argv: readonly string[],
  say: (text: string) => void = (text) => process.stderr.write(text),
): CommandLine {
  let read: CommandLine | undefined;
  const program = new Command('berth-conformance')
    .version(VERSION)
    .description(
      'Tries which clauses of the protocol berth.v1 an agent or a scheduler holds, as the other side of its link.',
    )
    .configureOutput({ writeErr: say })
    .exitOverride();
  const common = { listen: { host: '127.0.0.1', port: 0 }, url: '', changes: false };
  tried(program, 'agent', 'play a scheduler, and try the agent that connects')
    .addOption(
      new Option('--listen <host:port>', 'address to listen on')
        .argParser(readListen)
        .default({ host: '127.0.0.1', port: 7682 }, '127.0.0.1:7682'),
    )
    .option('--changes', 'also try commands: volumes of 1 GiB are made and deleted')
    .action((flags) => {
      read = { ...common, ...ofAll('agent', flags), listen: flags.listen, changes: flags.changes === true };
    });
  tried(program, 'scheduler', 'play agents, and try a scheduler; the nodes they play stay known to it')
    .requiredOption('--url <url>', 'ws:// or wss:// address of the scheduler, without a path', readUrl)
    .action((flags) => {
      read = { ...common, ...ofAll('scheduler', flags), url: flags.url, changes: true };
    });
  program.parse(argv, { from: 'user' });
  return read as CommandLine;
}

function tried(program: Command, side: Side, description: string): Command {
  return program
    .command(side)
    .description(description)
    .allowExcessArguments(false)
    .option('--token-file <path>', 'file of the bearer token that agents show', readToken)
    .addOption(new Option('--only <id...>', 'clauses to try').argParser(readIdOf(side)))
    .option('--json', 'print one JSON document');
}

function ofAll(
  side: Side,
  flags: { tokenFile?: string; only?: string[]; json?: boolean },
): Pick<CommandLine, 'side' | 'token' | 'only' | 'json'> {
  return { side, token: flags.tokenFile ?? null, only: flags.only ?? [], json: flags.json === true };
}

function readIdOf(side: Side) {
  return (id: string, before: string[] | undefined): string[] => {
    if (!IDS[side].includes(id)) throw new InvalidArgumentError(`There are: ${IDS[side].join(', ')}.`);
    return [...(before ?? []), id];
  };
}

function readListen(text: string): CommandLine['listen'] {
  const [, host, port] = /^(.+):(\d{1,5})$/.exec(text) ?? [];
  if (host === undefined || Number(port) > 65_535) throw new InvalidArgumentError('Such as 127.0.0.1:7682.');
  return { host: host.replaceAll(/[[\]]/g, ''), port: Number(port) };
}

function readUrl(text: string): string {
  if (!/^wss?:\/\/[^/]+\/?$/.test(text) || !URL.canParse(text)) {
    throw new InvalidArgumentError('Such as ws://127.0.0.1:7680, without a path.');
  }
  return text;
}

function readToken(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw new InvalidArgumentError(`It can't be read: ${excerpt((error as Error).message)}.`);
  }
}
