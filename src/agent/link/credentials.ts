/**
 * What the link shows a scheduler, and by what it knows the scheduler: from files of the operator, or by enrolment
 * (src/agent/identity).
 *
 * Files are read at each try, so that they can be replaced while the agent runs.
 */
import { readFileSync } from 'node:fs';
import { AgentError } from '../../model/errors.ts';

/** One try to connect. */
export interface Dial {
  /** ws:// or wss://, without a path. */
  url: string;
  /** Bearer token; null where a certificate is shown. */
  token: string | null;
  tls: DialTls;
  /** The scheduler has answered the hello that was sent by this. */
  onAccepted(): void;
  /** It came to no answer. */
  onFailed(): void;
}

/** PEM; by what is absent the system's authorities are trusted, and nothing is shown. */
export interface DialTls {
  ca?: string;
  cert?: string;
  key?: string;
}

export interface Credentials {
  /**
   * How to connect next; null where there is no scheduler.
   *
   * @param alternate Address in place of the scheduler's first one; null for that.
   * @throws {AgentError} UNAVAILABLE: a file can't be read.
   */
  dial(alternate: string | null): Dial | null;
}

export interface CredentialFiles {
  url: string;
  tokenFile?: string | undefined;
  caFile?: string | undefined;
  certFile?: string | undefined;
  keyFile?: string | undefined;
}

export class FileCredentials implements Credentials {
  readonly #files: CredentialFiles;

  constructor(files: CredentialFiles) {
    this.#files = files;
  }

  dial(alternate: string | null): Dial {
    const { url: first, tokenFile, caFile, certFile, keyFile } = this.#files;
    const tls: DialTls = {
      ...(caFile === undefined ? {} : { ca: read(caFile) }),
      ...(certFile === undefined || keyFile === undefined
        ? {}
        : { cert: read(certFile), key: read(keyFile) }),
    };
    const url = alternate ?? first;
    const token = tokenFile === undefined ? null : read(tokenFile).trim();
    return { url, token, tls, onAccepted: () => undefined, onFailed: () => undefined };
  }
}

/** The first that has anything. */
export function firstOf(...choices: readonly Credentials[]): Credentials {
  return {
    dial: (alternate) => {
      for (const choice of choices) {
        const dial = choice.dial(alternate);
        if (dial !== null) return dial;
      }
      return null;
    },
  };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new AgentError('UNAVAILABLE', `Cannot read ${path}`, { cause });
  }
}
