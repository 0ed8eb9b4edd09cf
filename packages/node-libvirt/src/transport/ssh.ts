/**
 * ssh to another host, and there virt-ssh-helper or netcat to the daemon's unix socket.
 *
 *   ChildStream ◄──► ssh ◄──network──► sshd ──► sh ──► virt-ssh-helper or nc ◄──► libvirt's socket
 *
 * Whether it has arrived shows only when the daemon answers: until then, the end of ssh is the failed attempt, and its
 * error says what ssh printed. Each connection is a process of its own.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import type { Duplex } from 'node:stream';
import { LibvirtTransportError, LibvirtUsageError } from '../errors.ts';
import { type ChildEnd, ChildStream } from './child-stream.ts';
import type { SshEndpoint } from './endpoint.ts';
import { cannotConnect, givenUp, reasonOf } from './opening.ts';
import { sshCommand, type SshOptions } from './ssh-command.ts';
import { peerOf } from './tcp.ts';
import type { Transport } from './transport.ts';

/** ssh's exit status for a failure of its own, not of the command there. @see ssh(1) */
const SSH_FAILED = 255;

/** A shell's exit statuses for a command that it cannot run, or does not find. */
const COMMAND_MISSING = [126, 127];

/** What ssh prints when one side does not accept the other. */
const NOT_ACCEPTED =
  /Permission denied|Host key verification failed|host key is known|HOST IDENTIFICATION HAS CHANGED|authentication failures|no mutual signature|Unprotected private key/i;

/** Characters of ssh's own words that an error shows. */
const WORDS_MAX_CHARACTERS = 400;

/**
 * @param timeoutMs How long the caller waits for a connection.
 * @throws {LibvirtUsageError} An option is malformed, or a file is missing.
 */
export function sshTransport(endpoint: SshEndpoint, options: SshOptions, timeoutMs: number): Transport {
  const { program, args } = sshCommand(endpoint, options, timeoutMs);
  const { user, host, port } = endpoint;
  const peer = `ssh://${user === null ? '' : `${user}@`}${port === null ? host : peerOf({ host, port })}`;
  checkReadable(options.keyFile ?? endpoint.settings.keyFile, 'private key');
  checkReadable(options.configFile, 'ssh configuration');
  return {
    peer,
    privacy: 'private',
    async open(signal): Promise<Duplex> {
      if (signal.aborted) throw givenUp(peer, signal, 'unreachable');
      const child = await started(program, args, peer);
      return new ChildStream(child, (end) => explain(end, peer));
    },
  };
}

async function started(
  program: string,
  args: string[],
  peer: string,
): Promise<ChildProcessWithoutNullStreams> {
  try {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    await once(child, 'spawn');
    return child;
  } catch (error) {
    throw cannotConnect('unreachable', peer, `${program} cannot be started: ${reasonOf(error)}`, error);
  }
}

function explain({ code, stderr, hasAnswered }: ChildEnd, peer: string): Error | null {
  if (hasAnswered) return code === 0 ? null : lost(peer, stderr);
  const words = wordsOf(stderr) || `it ended with status ${code} before the daemon answered`;
  if (code === SSH_FAILED)
    return cannotConnect(NOT_ACCEPTED.test(stderr) ? 'auth' : 'unreachable', peer, words);
  if (code !== null && COMMAND_MISSING.includes(code))
    return cannotConnect('unreachable', peer, `virt-ssh-helper or netcat cannot be run there: ${words}`);
  return cannotConnect('unreachable', peer, words);
}

function lost(peer: string, stderr: string): LibvirtTransportError {
  const words = wordsOf(stderr);
  return new LibvirtTransportError(
    'closed',
    `ssh to libvirt at ${peer} ended${words === '' ? '' : `: ${words}`}`,
  );
}

/** The end of what was printed, in one line. */
function wordsOf(stderr: string): string {
  const line = stderr.trim().replaceAll(/\s+/g, ' ').replaceAll(/\p{C}/gu, '?');
  return line.slice(-WORDS_MAX_CHARACTERS);
}

function checkReadable(path: string | undefined, what: string): void {
  if (path === undefined) return;
  try {
    accessSync(path, constants.R_OK);
  } catch (cause) {
    throw new LibvirtUsageError(`cannot read the ${what} ${path}`, { cause });
  }
}
