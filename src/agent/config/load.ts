/**
 * Reads the configuration: dumbly from TOML, validated once, then frozen.
 *
 * Hostile or careless input, and what it gets (always INVALID_ARGUMENT, with file and line):
 *   not TOML            → the parser's words
 *   unknown key         → the key that was probably meant, or those allowed
 *   wrong type or range → what is allowed
 *   a file over 1 MiB, or none at the path → said so
 */
import { readFileSync, statSync } from 'node:fs';
import { type AST, getStaticTOMLValue, parseTOML } from 'toml-eslint-parser';
import { AgentError } from '../../model/errors.ts';
import { type Fault, findFault } from '../../model/validate.ts';
import { checkStores } from './object-stores.ts';
import { faultOfPools } from './pools.ts';
import { type Config, ConfigSchema } from './schema.ts';

/** A configuration is a page; a larger file is a mistake. */
const FILE_BYTES_LIMIT = 1024 * 1024;

/** The sun_path of a unix socket has 108 bytes; more is cut off silently by some tools. @see unix(7) */
const SOCKET_PATH_LIMIT = 100;

/** @throws {AgentError} INVALID_ARGUMENT, with `details` { file, line } where a place is known. */
export function loadConfig(file: string): Config {
  return parseConfig(readConfigFile(file), file);
}

/** @param file Only named in messages. */
export function parseConfig(text: string, file: string): Config {
  const program = parseToml(text, file);
  const value = getStaticTOMLValue(program);
  const given = structuredClone(value) as { objects?: unknown };
  const fault = findFault(ConfigSchema, value);
  if (fault !== null) throw faultError(file, lineOf(program, fault.path), fault);
  const config = value as unknown as Config;
  checkTogether(config, file);
  checkStores(given.objects as object[] | undefined, (path, message) =>
    faultError(file, lineOf(program, path), { path, message }),
  );
  return deepFreeze(config);
}

function readConfigFile(file: string): string {
  try {
    if (statSync(file).size > FILE_BYTES_LIMIT) {
      throw new AgentError(
        'INVALID_ARGUMENT',
        `Configuration ${file} is larger than ${FILE_BYTES_LIMIT} bytes`,
      );
    }
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof AgentError) throw error;
    throw new AgentError('INVALID_ARGUMENT', `Cannot read the configuration ${file}`, { cause: error });
  }
}

function parseToml(text: string, file: string): AST.TOMLProgram {
  try {
    return parseTOML(text);
  } catch (error) {
    const line = (error as { lineNumber?: number }).lineNumber ?? 1;
    throw faultError(file, line, { path: [], message: (error as Error).message });
  }
}

const DAY_SECONDS = 86_400;

/** What no single key can show. */
function checkTogether(config: Config, file: string): void {
  for (const key of ['path', 'readOnlyPath'] as const) {
    if (config.socket[key].length <= SOCKET_PATH_LIMIT) continue;
    throw faultError(file, 1, {
      path: ['socket', key],
      message: `longer than ${SOCKET_PATH_LIMIT} characters`,
    });
  }
  if (config.socket.path === config.socket.readOnlyPath) {
    throw faultError(file, 1, { path: ['socket', 'readOnlyPath'], message: 'the same as path' });
  }
  const wrong = faultOfScheduler(config.scheduler);
  if (wrong !== null) throw faultError(file, 1, { path: ['scheduler'], message: wrong });
  const { poolWarningPercent: warning, poolCriticalPercent: critical } = config.capacity;
  if (warning > critical) {
    throw faultError(file, 1, {
      path: ['capacity'],
      message: `poolWarningPercent (${warning}) is above poolCriticalPercent (${critical})`,
    });
  }
  const { periodSeconds } = config.metering;
  if (DAY_SECONDS % periodSeconds !== 0) {
    throw faultError(file, 1, {
      path: ['metering', 'periodSeconds'],
      message: `${periodSeconds} is no part of a day without a rest; 3600, 900 and 86400 are`,
    });
  }
  const poolFault = faultOfPools(config);
  if (poolFault !== null) throw faultError(file, 1, poolFault);
  assertNamedOnce(config.objects, file, 'objects', 'object stores');
  assertNamedOnce(config.keys, file, 'keys', 'keys');
}

function assertNamedOnce(
  sections: readonly { name: string }[],
  file: string,
  key: 'objects' | 'keys',
  what: string,
): void {
  const names = sections.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice === undefined) return;
  throw faultError(file, 1, { path: [key], message: `two ${what} are named ${twice}` });
}

function faultOfScheduler(scheduler: Config['scheduler']): string | null {
  const { url, tokenFile, caFile, certFile, keyFile, enrolTokenFile } = scheduler;
  const isSecure = url?.startsWith('wss://') ?? false;
  if ((certFile === undefined) !== (keyFile === undefined)) return 'certFile and keyFile go together';
  if (!isSecure && (caFile ?? certFile) !== undefined)
    return 'caFile and certFile need a wss:// url beside them';
  if (enrolTokenFile !== undefined && certFile !== undefined) return 'either enrolTokenFile or certFile';
  if (url === undefined || tokenFile !== undefined || isSecure) return null;
  return 'url needs tokenFile beside it';
}

function faultError(file: string, line: number, fault: Fault): AgentError {
  const at = fault.path.length === 0 ? '' : `${fault.path.join('.')}: `;
  return new AgentError('INVALID_ARGUMENT', `${file}:${line}: ${at}${fault.message}`, {
    details: { file, line },
  });
}

/** Line of the deepest node on `path` that the text has. */
function lineOf(program: AST.TOMLProgram, path: readonly string[]): number {
  let line = 1;
  let deepest = 0;
  visit(program.body[0], []);
  return line;

  function visit(node: AST.TOMLNode, prefix: readonly string[]): void {
    if (node.type === 'TOMLTopLevelTable') for (const child of node.body) visit(child, prefix);
    if (node.type === 'TOMLTable') enter(node, node.resolvedKey.map(String), node.body);
    if (node.type === 'TOMLKeyValue') {
      const keys = node.key.keys.map((key) => (key.type === 'TOMLBare' ? key.name : key.value));
      enter(node, [...prefix, ...keys], node.value.type === 'TOMLInlineTable' ? node.value.body : []);
    }
  }

  function enter(node: AST.TOMLNode, at: readonly string[], children: readonly AST.TOMLNode[]): void {
    if (!at.every((key, i) => path[i] === key)) return;
    if (at.length > deepest) {
      deepest = at.length;
      line = node.loc.start.line;
    }
    for (const child of children) visit(child, at);
  }
}

function deepFreeze<T extends object>(value: T): T {
  for (const child of Object.values(value)) {
    if (typeof child === 'object' && child !== null) deepFreeze(child);
  }
  return Object.freeze(value);
}
