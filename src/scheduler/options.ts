/**
 * The command line of berth-scheduler: read, checked once, frozen.
 */
import { isIP } from 'node:net';
import { Command, InvalidArgumentError, Option } from 'commander';
import { VERSION } from '../model/version.ts';
import { ENGINE_NAMES } from './engines/engine.ts';
import type { EngineChoice } from './engines/make-engine.ts';
import { POLICIES, type Policy } from './placement/request.ts';
import type { BusOptions } from './relay/bus.ts';
import { busFlags, busOf, faultOfBus } from './relay/bus-options.ts';
import type { TlsChoice } from './tls.ts';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
/** Seconds; the wire allows no more. */
const HEARTBEAT_SECONDS_MAX = 300;
/** Two years: a revocation that got lost would hold no longer. */
const CERTIFICATE_HOURS_MAX = 2 * 365 * 24;
const HOUR_MS = 3_600_000;
/** The scheduler is always reached by these on its own machine. */
const LOOPBACK_NAMES = ['localhost', '127.0.0.1', '::1'];
/** Addresses to listen on that nobody connects to. */
const WILDCARDS = new Set(['0.0.0.0', '::']);
const HOST_NAME = /^(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*$/;

export interface CommandLine {
  readonly listen: { readonly host: string; readonly port: number };
  readonly stateDir: string;
  readonly tokenFile: string;
  readonly heartbeatSeconds: number;
  readonly engine: EngineChoice;
  /** How instances are placed where a request does not say. */
  readonly policy: Policy;
  /** How NATS is reached, which joins several gateways; null without. */
  readonly bus: BusOptions | null;
  /** Null for plain HTTP. */
  readonly tls: TlsChoice | null;
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
      new Option(
        '--heartbeat-seconds <n>',
        'seconds between heartbeats of an agent; more of them with over 1,000 known nodes for each second',
      )
        .argParser(readHeartbeat)
        .default(5),
    )
    .addOption(
      new Option(
        '--engine <engine>',
        'what holds inventories and claims: its own database, or an OpenStack Placement',
      )
        .choices(ENGINE_NAMES)
        .default('embedded'),
    )
    .addOption(new Option('--placement-url <url>', 'with --engine placement: where it is').argParser(readUrl))
    .option('--placement-token-file <path>', 'with --engine placement: file with the token for it')
    .addOption(
      new Option('--policy <policy>', 'how instances are placed where a request does not say')
        .choices(POLICIES)
        .default('spread'),
    )
    .option('--ca', 'be the authority: TLS by a certificate of its own, and nodes enrol by tokens')
    .option('--tls-name <name...>', 'with --ca: names and addresses by which nodes reach the scheduler')
    .addOption(
      new Option('--certificate-hours <n>', 'with --ca: life of the certificates of nodes')
        .argParser(readHours)
        .default(720),
    )
    .allowExcessArguments(false)
    .configureOutput({ writeErr: say })
    .exitOverride();
  for (const option of [...commonFlags('scheduler'), ...busFlags()]) command.addOption(option);
  const flags = command.parse(argv, { from: 'user' }).opts();
  const wrong = faultOfTls(flags) ?? faultOfEngine(flags) ?? faultOfBus(flags);
  if (wrong !== null) command.error(`error: ${wrong}`);
  return Object.freeze({
    listen: flags['listen'],
    stateDir: flags['stateDir'],
    tokenFile: flags['tokenFile'] ?? `${flags['stateDir']}/token`,
    heartbeatSeconds: flags['heartbeatSeconds'],
    engine: engineOf(flags),
    policy: flags['policy'],
    bus: busOf(flags, 'berth-scheduler'),
    tls: tlsOf(flags),
    logLevel: flags['logLevel'],
  });
}

/** What a door for agents is told, whoever it is of. */
export function commonFlags(whose: 'scheduler' | 'gateway'): Option[] {
  return [
    new Option(
      '--tls-cert <file>',
      `certificate of the ${whose}, PEM, with those between it and its authority`,
    ),
    new Option('--tls-key <file>', 'its key, PEM'),
    new Option('--client-ca <file>', 'authority of the certificates that nodes have to show, PEM'),
    new Option('--log-level <level>', 'least level that is logged').choices(LOG_LEVELS).default('info'),
  ];
}

type Flags = Record<string, string | boolean | number | string[] | { host: string } | undefined>;

/** What no single option can show; null where nothing is wrong. */
export function faultOfTls({ ca, tlsCert, tlsKey, clientCa, tlsName }: Flags): string | null {
  if ((tlsCert === undefined) !== (tlsKey === undefined)) return '--tls-cert and --tls-key go together';
  if (ca && tlsCert !== undefined) return '--ca makes its own certificate: leave out --tls-cert';
  if (clientCa !== undefined && tlsCert === undefined) return '--client-ca needs --tls-cert and --tls-key';
  if (tlsName !== undefined && !ca) return '--tls-name needs --ca';
  const names = (tlsName ?? []) as string[];
  const wrong = names.find((name) => isIP(name) === 0 && !HOST_NAME.test(name));
  return wrong === undefined
    ? null
    : `--tls-name ${JSON.stringify(wrong)} is no name of a host and no address`;
}

export function tlsOf({
  ca,
  tlsCert,
  tlsKey,
  clientCa,
  tlsName,
  listen,
  certificateHours,
}: Flags): TlsChoice | null {
  if (ca) {
    const named = (tlsName ?? [(listen as { host: string }).host]) as string[];
    const hosts = [...new Set([...named, ...LOOPBACK_NAMES])].filter((host) => !WILDCARDS.has(host));
    return { kind: 'authority', hosts, lifetimeMs: (certificateHours as number) * HOUR_MS };
  }
  if (tlsCert === undefined) return null;
  const [cert, key] = [tlsCert as string, tlsKey as string];
  return { kind: 'files', cert, key, clientCa: (clientCa as string | undefined) ?? null };
}

function faultOfEngine({ engine, placementUrl, placementTokenFile }: Flags): string | null {
  const isGiven = placementUrl !== undefined || placementTokenFile !== undefined;
  if (engine === 'embedded') return isGiven ? '--placement-url and its token need --engine placement' : null;
  const isWhole = placementUrl !== undefined && placementTokenFile !== undefined;
  return isWhole ? null : '--engine placement needs --placement-url and --placement-token-file';
}

function engineOf({ engine, placementUrl, placementTokenFile }: Flags): EngineChoice {
  if (engine === 'embedded') return { name: 'embedded' };
  return { name: 'placement', url: placementUrl as string, tokenFile: placementTokenFile as string };
}

function readUrl(value: string): string {
  const url = URL.parse(value);
  const isGood = url !== null && /^https?:$/.test(url.protocol) && url.search === '' && url.hash === '';
  if (isGood && url.username === '' && url.password === '') return url.href;
  throw new InvalidArgumentError('Give http:// or https://, a host, and a path where it is under one.');
}

function readHours(value: string): number {
  const hours = Number(value);
  if (Number.isInteger(hours) && hours >= 1 && hours <= CERTIFICATE_HOURS_MAX) return hours;
  throw new InvalidArgumentError(`Give whole hours, 1 to ${CERTIFICATE_HOURS_MAX}.`);
}

export function readListen(value: string): { host: string; port: number } {
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
