/**
 * The command lines of the transport ssh: that of ssh here, and that of the shell on the other host. Pure.
 *
 * Promises: nothing that comes from a URI can be taken for an option of ssh, an item of its configuration, or a word of
 * a shell; ssh never asks anything; each connection has an ssh process of its own.
 *
 * @see virNetSocketNewConnectSSH, virnetsocket.c; virNetClientSSHHelperCommand, virnetclient.c
 */
import { LibvirtUsageError } from '../errors.ts';
import { hasControlCharacter } from '../uri-syntax.ts';
import type { HostKeyPolicy, SshEndpoint, SshRemote, SshSettings } from './endpoint.ts';

/** Options of the transport ssh. They go before the URI's parameters. ssh is never allowed to ask anything. */
export interface SshOptions {
  /** The ssh program, a name or a path. It goes before the URI's `command`. @default 'ssh' */
  command?: string;
  /** File of the private key to log in with, besides those that ssh finds itself. It goes before the URI's `keyfile`. */
  keyFile?: string;
  /** File of the hosts' keys. It goes before the URI's `known_hosts`. @default ssh's own */
  knownHostsFile?: string;
  /** What becomes of a host whose key is not known. @default what ssh's configuration says; where it says to ask, 'known' */
  hostKeys?: HostKeyPolicy;
  /** ssh_config to be read instead of the user's and the system's. */
  configFile?: string;
}

const STRICT_HOST_KEY_CHECKING: Readonly<Record<HostKeyPolicy, string>> = {
  known: 'yes',
  acceptNew: 'accept-new',
  acceptAny: 'no',
};

/**
 * A master connection that others share would take them all along when it dies, and forwardings can be had only once.
 */
const FIXED_OPTIONS = ['BatchMode=yes', 'ControlMaster=no', 'ControlPath=none', 'ClearAllForwardings=yes'];

/** ssh gives up a little before the call does that waits for it, and so can say what was wrong. */
const SHARE_OF_TIMEOUT = 0.9;

/** Seconds. @see ConnectTimeout, ssh_config(5) */
const CONNECT_TIMEOUT_MAX_S = 3_600;

export interface SshCommand {
  program: string;
  args: string[];
}

/**
 * @param timeoutMs How long the caller waits for the connection.
 * @throws {LibvirtUsageError} An option is malformed.
 */
export function sshCommand(endpoint: SshEndpoint, options: SshOptions, timeoutMs: number): SshCommand {
  const settings: SshSettings & SshOptions = { ...endpoint.settings, ...withoutUndefined(options) };
  const timeoutS = Math.min(
    CONNECT_TIMEOUT_MAX_S,
    Math.max(1, Math.floor((timeoutMs / 1000) * SHARE_OF_TIMEOUT)),
  );
  const config = [...FIXED_OPTIONS, `ConnectTimeout=${timeoutS}`, ...configOf(settings)];
  const args = [
    ...(settings.configFile === undefined ? [] : ['-F', checkedArgument('configFile', settings.configFile)]),
    ...(endpoint.port === null ? [] : ['-p', String(endpoint.port)]),
    ...(endpoint.user === null ? [] : ['-l', endpoint.user]),
    ...['-T', '-a', '-x', '-e', 'none'],
    ...config.flatMap((option) => ['-o', option]),
    ...['--', endpoint.host, remoteCommand(endpoint.remote)],
  ];
  return { program: checkedArgument('command', settings.command ?? 'ssh'), args };
}

/** What the login shell of the other host, whichever it is, is given to run. */
export function remoteCommand(remote: SshRemote): string {
  return `sh -c ${quoted(scriptOf(remote))}`;
}

function scriptOf(remote: SshRemote): string {
  switch (remote.proxy) {
    case 'native':
      return `exec ${helperOf(remote)}`;
    case 'netcat':
      return netcatOf(remote);
    case 'auto':
      return `if command -v virt-ssh-helper >/dev/null 2>&1; then exec ${helperOf(remote)}; fi; ${netcatOf(remote)}`;
    default:
      return remote.proxy satisfies never;
  }
}

function helperOf({ uri, readOnly }: SshRemote): string {
  return `virt-ssh-helper ${readOnly ? '-r ' : ''}${quoted(uri)}`;
}

/** Some netcats go on after their input has ended, unless told -q0; others do not know -q. */
function netcatOf({ netcat, socketPath }: SshRemote): string {
  const program = quoted(netcat);
  const knowsQ = `${program} -q 2>&1 | grep "requires an argument" >/dev/null 2>&1`;
  return `if ${knowsQ}; then Q=-q0; else Q=; fi; exec ${program} $Q -U ${quoted(socketPath)}`;
}

/** One word for a shell, whatever is in it. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function configOf({ keyFile, knownHostsFile, hostKeys }: SshSettings): string[] {
  return [
    ...(keyFile === undefined ? [] : [`IdentityFile=${configPath('keyFile', keyFile)}`]),
    ...(knownHostsFile === undefined
      ? []
      : [`UserKnownHostsFile=${configPath('knownHostsFile', knownHostsFile)}`]),
    ...(hostKeys === undefined ? [] : [`StrictHostKeyChecking=${checkedPolicy(hostKeys)}`]),
  ];
}

/** A path as a value in ssh's configuration, where quotes, `%` and `${…}` have a meaning. @see ssh_config(5) */
function configPath(name: string, path: unknown): string {
  const checked = checkedArgument(name, path);
  if (/["$\\]/.test(checked)) throw new LibvirtUsageError(`ssh.${name} must not hold " $ or a backslash`);
  return `"${checked.replaceAll('%', '%%')}"`;
}

function checkedArgument(name: string, value: unknown): string {
  if (typeof value === 'string' && value !== '' && !value.startsWith('-') && !hasControlCharacter(value))
    return value;
  const got = typeof value === 'string' ? JSON.stringify(value.slice(0, 64)) : typeof value;
  throw new LibvirtUsageError(`ssh.${name} is a name or a path, got ${got}`);
}

function checkedPolicy(policy: HostKeyPolicy): string {
  if (Object.hasOwn(STRICT_HOST_KEY_CHECKING, policy)) return STRICT_HOST_KEY_CHECKING[policy];
  throw new LibvirtUsageError(`ssh.hostKeys is one of ${Object.keys(STRICT_HOST_KEY_CHECKING).join(', ')}`);
}

function withoutUndefined(options: SshOptions): SshOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
