/**
 * `berth-scheduler token create`, `revoke`, `node state`, `node fence`, `instance restart`, `usage`: what an operator
 * asks of the scheduler that runs, by its HTTP API, with the files of its state folder.
 *
 * A token is written to standard output or to a file for its owner alone; it is never an argument, which every user
 * of the machine could read.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { request as plainRequest } from 'node:http';
import { request as secureRequest } from 'node:https';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { AgentError, type ErrorBody } from '../model/errors.ts';
import { parseJson } from '../model/json.ts';
import { NODE_SERVICES } from './store/nodes.ts';

const COMMANDS = ['token', 'revoke', 'node', 'instance', 'usage'];
const FENCE_WORDS = {
  fence:
    'Say that a lost node is powered off, or cut off from its storage: its instances may be restarted elsewhere.',
  unfence: 'Take that back.',
};
/** The scheduler answers from memory and its database, but for what a node is asked for: that may take 15 s. Milliseconds. */
const TIMEOUT_MS = 30_000;

/** Whether the command line is one for here, and not one that starts a scheduler. */
export function isAdminCommand([first]: readonly string[]): boolean {
  return first !== undefined && COMMANDS.includes(first);
}

export interface AdminIo {
  out(text: string): void;
  err(text: string): void;
}

/** @throws {AgentError} The scheduler's refusal, or UNAVAILABLE. {CommanderError} for what is not allowed. */
export async function runAdmin(argv: readonly string[], io: AdminIo): Promise<void> {
  const program = new Command('berth-scheduler')
    .exitOverride()
    .configureOutput({ writeOut: io.out, writeErr: io.err });
  const token = program.command('token').description('Tokens that enrol a node.');
  withAccess(token.command('create').description('Make a token that enrols one node once.'))
    .addOption(new Option('--ttl-seconds <n>', 'how long it is good').argParser(readSeconds).default(3_600))
    .option('--node <id>', 'the node that it is for; one that is known needs that')
    .option('--out <file>', 'new file for it, for its owner alone (default: standard output)')
    .action((flags: Flags) => createToken(flags, io));
  withAccess(program.command('revoke').description('Revoke the certificates of a node, and close its link.'))
    .argument('<node>', 'id or hostname')
    .action((node: string, flags: Flags) => revoke(node, flags, io));
  addNodeCommands(program, io);
  addInstanceCommands(program, io);
  addUsageCommand(program, io);
  await program.parseAsync(argv, { from: 'user' });
}

function addNodeCommands(program: Command, io: AdminIo): void {
  const node = program.command('node').description('The service of nodes.');
  withAccess(node.command('state').description('Have a node take instances, take none, or be left alone.'))
    .argument('<node>', 'id or hostname')
    .addArgument(new Argument('<state>', 'what it is to be').choices(NODE_SERVICES))
    .requiredOption('--reason <text>', 'why; it is kept and shown')
    .action((name: string, state: string, { reason, ...flags }: Flags) =>
      tell(pathOf(name, 'state'), { state, by: userInfo().username, reason }, flags, io),
    );
  for (const action of ['fence', 'unfence'] as const) {
    withAccess(node.command(action).description(FENCE_WORDS[action]))
      .argument('<node>', 'id or hostname')
      .requiredOption('--reason <text>', 'why, and how it was made sure; it is kept and shown')
      .option('--by <name>', 'who does it (default: the user)')
      .action((name: string, { reason, by = userInfo().username, ...flags }: Flags) =>
        tell(pathOf(name, action), { by, reason }, flags, io),
      );
  }
}

function addInstanceCommands(program: Command, io: AdminIo): void {
  const instance = program.command('instance').description('Instances of nodes that are gone.');
  withAccess(
    instance.command('restart').description('Have an instance of a fenced node go on on another one.'),
  )
    .argument('<instance>', 'id or name; all its disks are in shared pools')
    .requiredOption('--reason <text>', 'why; it is kept and shown')
    .option('--node <node>', 'id or hostname of the node to take (default: one is chosen)')
    .option('--by <name>', 'who does it (default: the user)')
    .action((name: string, { node, reason, by = userInfo().username, ...flags }: Flags) =>
      restart(name, { by, reason, ...(node !== undefined && { node }) }, flags, io),
    );
}

interface Flags {
  url: string;
  stateDir: string;
  tokenFile?: string;
  caFile?: string;
  ttlSeconds: number;
  node?: string;
  out?: string;
  reason: string;
  by?: string;
}

type Access = Omit<Flags, 'reason'>;

/** Options of `usage`, which are the API's own. */
const USAGE_OPTIONS = ['node', 'instance', 'volume', 'since', 'until', 'after'];

function addUsageCommand(program: Command, io: AdminIo): void {
  const usage = withAccess(program.command('usage'))
    .description('Print usage records, one JSON document a line, in the order in which they came.')
    .option('--node <node>', 'id or hostname')
    .option('--instance <id>', 'only those of an instance')
    .option('--volume <id>', 'only those of a volume')
    .option('--since <time>', 'only periods that end after this, RFC 3339, UTC')
    .option('--until <time>', 'only periods that end by this, RFC 3339, UTC')
    .option('--after <position>', 'only what came after the record of this position');
  usage.action((flags: Flags & Record<string, string>) => printUsage(flags, io));
}

/** Page after page, until there is no more. */
async function printUsage(flags: Flags & Record<string, string>, io: AdminIo): Promise<void> {
  const asked = USAGE_OPTIONS.filter((name) => flags[name] !== undefined);
  const query = new URLSearchParams(asked.map((name): [string, string] => [name, flags[name] ?? '']));
  for (let next: number | null = 0; next !== null; ) {
    const page = (await ask(flags, `/v1/usage?${query}`)) as { records: object[]; next: number | null };
    for (const record of page.records) io.out(`${JSON.stringify(record)}\n`);
    next = page.next;
    query.set('after', String(next));
  }
}

function withAccess(command: Command): Command {
  return command
    .option('--url <url>', 'address of the scheduler', 'https://localhost:7680')
    .option('--state-dir <path>', 'folder of the scheduler', '/var/lib/berth-scheduler')
    .option('--token-file <path>', 'file of the bearer token (default: STATE-DIR/token)')
    .option('--ca-file <path>', 'authority of its certificate (default: STATE-DIR/ca/ca.pem)')
    .allowExcessArguments(false);
}

async function createToken(flags: Flags, io: AdminIo): Promise<void> {
  const body = { ttlSeconds: flags.ttlSeconds, ...(flags.node === undefined ? {} : { node: flags.node }) };
  const { token, expiresAt } = (await ask(flags, '/v1/enrolment-tokens', body)) as Record<string, string>;
  if (flags.out === undefined) io.out(`${token}\n`);
  else writeFileSync(flags.out, `${token}\n`, { mode: 0o600, flag: 'wx' });
  io.err(`It is good until ${expiresAt}, for one node, once.\n`);
}

async function revoke(node: string, flags: Flags, io: AdminIo): Promise<void> {
  const { revoked } = (await ask(flags, `/v1/nodes/${encodeURIComponent(node)}/revoke`, {})) as {
    revoked: number;
  };
  io.out(`Revoked ${revoked} certificates of ${node}.\n`);
}

async function tell(path: string, body: object, flags: Access, io: AdminIo): Promise<void> {
  const { node } = (await ask(flags, path, body)) as {
    node: { hostname: string; state: string; fence: unknown };
  };
  io.out(`Node ${node.hostname} is ${node.state}${node.fence === null ? '' : ', and fenced'}.\n`);
}

async function restart(name: string, body: object, flags: Access, io: AdminIo): Promise<void> {
  const path = `/v1/instances/${encodeURIComponent(name)}/restart-elsewhere`;
  const { instance, operation } = (await ask(flags, path, body)) as {
    instance: { name: string; hostname: string };
    operation: { id: string } | null;
  };
  const how = operation === null ? 'the node has not answered yet' : `operation ${operation.id}`;
  io.out(`Instance ${instance.name} is being restarted on ${instance.hostname}: ${how}.\n`);
}

function pathOf(node: string, action: string): string {
  return `/v1/nodes/${encodeURIComponent(node)}/${action}`;
}

/** @param body Null to read. */
async function ask(flags: Access, path: string, body: object | null = null): Promise<unknown> {
  const url = new URL(path, flags.url);
  const bearer = readFileSync(flags.tokenFile ?? join(flags.stateDir, 'token'), 'utf8').trim();
  const sent = body === null ? '' : JSON.stringify(body);
  const options = {
    method: body === null ? 'GET' : 'POST',
    headers: {
      authorization: `Bearer ${bearer}`,
      ...(body === null ? {} : { 'content-type': 'application/json' }),
    },
    signal: AbortSignal.timeout(TIMEOUT_MS),
    ...caOf(flags),
  };
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const request = (url.protocol === 'http:' ? plainRequest : secureRequest)(url, options, (response) => {
    text(response)
      .then((answer) => resolve(resultOf(response.statusCode ?? 0, answer)))
      .catch(reject);
  });
  request.on('error', (cause) =>
    reject(new AgentError('UNAVAILABLE', `Cannot ask the scheduler at ${url.origin}`, { cause })),
  );
  request.end(sent);
  return promise;
}

function caOf({ caFile, stateDir }: Access): { ca?: Buffer } {
  const own = join(stateDir, 'ca/ca.pem');
  if (caFile !== undefined) return { ca: readFileSync(caFile) };
  return existsSync(own) ? { ca: readFileSync(own) } : {};
}

function resultOf(status: number, answer: string): unknown {
  const value = parseJson(answer) as { error?: ErrorBody };
  if (status === 200 || status === 202) return value;
  throw AgentError.fromBody(
    value.error ?? { code: 'INTERNAL', message: `the scheduler answered with ${status}` },
  );
}

function readSeconds(value: string): number {
  const seconds = Number(value);
  if (Number.isSafeInteger(seconds) && seconds > 0) return seconds;
  throw new InvalidArgumentError('Give whole seconds.');
}
