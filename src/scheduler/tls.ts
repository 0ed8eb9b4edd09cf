/**
 * How the scheduler serves TLS, and what it asks of agents then: nothing, by files of the operator, or by an authority of
 * its own.
 *
 * The handshake takes any client certificate, or none: callers of the HTTP API show a bearer token, and agents that are turned
 * away are told why (gateway/doorkeeper.ts).
 */
import { constants } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Server, ServerOptions } from 'node:https';
import { join } from 'node:path';
import { AgentError } from '../model/errors.ts';
import { Authority } from './ca/authority.ts';
import type { Clock } from './clock.ts';

export type TlsChoice =
  | { kind: 'files'; cert: string; key: string; clientCa: string | null }
  | {
      kind: 'authority';
      /** Names and addresses by which nodes reach the scheduler; the first one is told to them. */
      hosts: readonly string[];
      /** Of certificates of nodes, milliseconds. */
      lifetimeMs: number;
    };

/** Between two looks whether the scheduler's own certificate is to be renewed, ms. */
const RENEWAL_INTERVAL_MS = 12 * 3_600_000;

export interface Tls {
  options: ServerOptions;
  agentsShow: 'certificate' | 'bearer';
  authority: Authority | null;
  /** Keeps the server's certificate fresh; the answer ends that. */
  attend(server: Server): () => void;
}

/**
 * No session is resumed: who comes back proves anew who he is. A handshake is a sixth cheaper without tickets for that, which
 * have the agent's certificate in them.
 */
const COMMON: ServerOptions = {
  minVersion: 'TLSv1.3',
  secureOptions: constants.SSL_OP_NO_TICKET,
  rejectUnauthorized: false,
};

/** @throws {AgentError} INVALID_ARGUMENT: a file can't be read, or is none. */
export function prepareTls(choice: TlsChoice, stateDir: string, clock: Clock): Tls {
  return choice.kind === 'files' ? tlsOfFiles(choice) : tlsOfAuthority(choice, join(stateDir, 'ca'), clock);
}

function tlsOfFiles({ cert, key, clientCa }: Extract<TlsChoice, { kind: 'files' }>): Tls {
  const ca = clientCa === null ? {} : { ca: read(clientCa), requestCert: true };
  return {
    options: { ...COMMON, cert: read(cert), key: read(key), ...ca },
    agentsShow: clientCa === null ? 'bearer' : 'certificate',
    authority: null,
    attend: () => () => undefined,
  };
}

function tlsOfAuthority(
  { hosts, lifetimeMs }: Extract<TlsChoice, { kind: 'authority' }>,
  folder: string,
  clock: Clock,
): Tls {
  const authority = new Authority({ folder, clock, lifetimeMs });
  const common = { ...COMMON, ca: authority.pem, requestCert: true };
  const first = authority.issueForScheduler(hosts);
  return {
    options: { ...common, cert: first.cert, key: first.key },
    agentsShow: 'certificate',
    authority,
    attend: (server) => {
      let { renewAt } = first;
      return clock.every(RENEWAL_INTERVAL_MS, () => {
        if (clock.now() < renewAt) return;
        const next = authority.issueForScheduler(hosts);
        server.setSecureContext({ ...common, cert: next.cert, key: next.key });
        renewAt = next.renewAt;
      });
    },
  };
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new AgentError('INVALID_ARGUMENT', `Cannot read ${path}`, { cause });
  }
}
