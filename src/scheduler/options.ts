/**
 * The command line of berth-scheduler: read, checked once, frozen.
 */
import { Command, InvalidArgumentError, Option } from 'commander';
import { VERSION } from '../model/version.ts';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
/** Seconds; the wire allows no more. */
const HEARTBEAT_SECONDS_MAX = 300;

export interface CommandLine {
  readonly listen: { readonly host: string; readonly port: number };
  readonly stateDir: string;
  readonly tokenFile: string;
  readonly heartbeatSeconds: number;
  readonly logLevel: (typeof LOG_LEVELS)[number];
}

/**
 * @param say Where it is said what is not allowed.
 * @throws {CommanderError} for what is not allowed, or where help was asked for.
 */
export function readCommandLine(
  argv: readonly string[],
  say: (text: string) => void = (text) => process.stderr.write(text),
): CommandLine {
  const command = new Command('berth-scheduler')
    .version(VERSION)
    .description('The reference scheduler of Berth: accepts agents, places instances, serves an HTTP API.')
    .addOption(
      new Option('--listen <host:port>', 'address of the HTTP API and of the endpoint for agents')
        .argParser(readListen)
        .default({ host: '127.0.0.1', port: 7680 }, '127.0.0.1:7680'),
    )
    .option('--state-dir <path>', 'folder of the database', '/var/lib/berth-scheduler')
    .option('--token-file <path>', 'file of the bearer token; made when absent (default: STATE-DIR/token)')
    .addOption(
      new Option('--heartbeat-seconds <n>', 'seconds between heartbeats that agents are asked for')
        .argParser(readHeartbeat)
        .default(5),
    )
    .addOption(
      new Option('--log-level <level>', 'least level that is logged').choices(LOG_LEVELS).default('info'),
    )
    .allowExcessArguments(false)
    .configureOutput({ writeErr: say })
    .exitOverride();
  const flags = command.parse(argv, { from: 'user' }).opts();
  return Object.freeze({
    listen: flags['listen'],
    stateDir: flags['stateDir'],
    tokenFile: flags['tokenFile'] ?? `${flags['stateDir']}/token`,
    heartbeatSeconds: flags['heartbeatSeconds'],
    logLevel: flags['logLevel'],
  });
}

function readListen(value: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(value);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host !== undefined && port <= 65_535) return { host, port };
  throw new InvalidArgumentError('Give host:port, such as 127.0.0.1:7680 or [::1]:7680.');
}

function readHeartbeat(value: string): number {
  const seconds = Number(value);
  if (Number.isInteger(seconds) && seconds >= 1 && seconds <= HEARTBEAT_SECONDS_MAX) return seconds;
  throw new InvalidArgumentError(`Give whole seconds, 1 to ${HEARTBEAT_SECONDS_MAX}.`);
}
