/**
 * User names and passwords: where they come from, and how long they are kept.
 *
 * A Connection opens several channels, and each of them logs in. So the caller is asked once, and what it answered is
 * kept in memory until the daemon refuses it; then the next channel asks again.
 */
import { LibvirtTransportError, LibvirtUsageError } from '../errors.ts';
import { saslprep } from './saslprep.ts';

export interface Credentials {
  username: string;
  password: string;
}

/** What the daemon wants credentials for. */
export interface CredentialsRequest {
  /** The daemon, for example "host.example:16514". */
  peer: string;
  /** The SASL mechanism, for example 'SCRAM-SHA-256'. */
  mechanism: string;
}

/** Credentials, or a function that gives them when the daemon asks. */
export type CredentialsOption =
  | Credentials
  | ((request: CredentialsRequest) => Credentials | Promise<Credentials>);

/** Characters of a name or password. Cyrus SASL, the daemon's side, takes less. */
const TEXT_MAX_CHARACTERS = 1_024;

export class CredentialSource {
  readonly #option: CredentialsOption | undefined;
  #kept: Promise<Credentials> | null = null;

  /** @throws {LibvirtUsageError} Not what it has to be. */
  constructor(option: CredentialsOption | undefined) {
    this.#option = option;
    if (option !== undefined && typeof option !== 'function') checkCredentials(option);
  }

  /** Whether the caller has given any, or a function for them. */
  get isThere(): boolean {
    return this.#option !== undefined;
  }

  /** @throws {LibvirtTransportError} auth: the caller's function failed, or gave something else; the cause says. */
  get(request: CredentialsRequest): Promise<Credentials> {
    this.#kept ??= this.#ask(request).catch((error) => {
      this.forget();
      throw error;
    });
    return this.#kept;
  }

  /** They were refused. */
  forget(): void {
    this.#kept = null;
  }

  async #ask(request: CredentialsRequest): Promise<Credentials> {
    const option = this.#option;
    try {
      const credentials = typeof option === 'function' ? await option(request) : option;
      checkCredentials(credentials);
      return credentials;
    } catch (cause) {
      const message = `cannot log in to libvirt at ${request.peer}: \`auth\` gave no credentials`;
      throw new LibvirtTransportError('auth', message, { cause });
    }
  }
}

/** The values themselves are never shown. */
function checkCredentials(credentials: unknown): asserts credentials is Credentials {
  const given = (credentials ?? {}) as Partial<Record<string, unknown>>;
  for (const name of ['username', 'password'] as const) {
    const value = given[name];
    if (typeof value !== 'string' || value === '' || value.length > TEXT_MAX_CHARACTERS)
      throw new LibvirtUsageError(`auth: ${name} must be a string of 1 to ${TEXT_MAX_CHARACTERS} characters`);
    saslprep(value, name);
  }
}
