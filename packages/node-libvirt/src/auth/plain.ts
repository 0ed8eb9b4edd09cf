/** The SASL mechanism PLAIN: the server is shown the password. Only for a way and a peer that may see it. @see RFC 4616 */
import type { Credentials } from './credentials.ts';
import { type SaslClient, SaslError } from './mechanism.ts';

export class PlainClient implements SaslClient {
  readonly isDone = true;
  readonly #credentials: Credentials;

  constructor(credentials: Credentials) {
    this.#credentials = credentials;
  }

  start(): Buffer {
    const { username, password } = this.#credentials;
    return Buffer.from(`\0${username}\0${password}`, 'utf8');
  }

  step(): Promise<never> {
    return Promise.reject(new SaslError('protocol', 'PLAIN has no second message'));
  }
}
