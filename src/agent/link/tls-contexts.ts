/**
 * Keeps what TLS has made of the keys and certificates that were used last: to read them anew costs a try that comes to
 * nothing more than all the rest of it.
 */
import { createSecureContext, type SecureContext } from 'node:tls';
import type { Dial, DialTls } from './credentials.ts';

export class TlsContexts {
  #last: { pem: DialTls; context: SecureContext } | null = null;

  /**
   * What to connect with.
   *
   * @returns Nothing where the scheduler is reached without TLS.
   * @throws {Error} A certificate or key is none, or they are not of each other.
   */
  optionsFor({ url, tls }: Dial): { secureContext?: SecureContext } {
    return url.startsWith('wss:') ? { secureContext: this.#contextOf(tls) } : {};
  }

  #contextOf(pem: DialTls): SecureContext {
    if (this.#last === null || !isSame(this.#last.pem, pem)) {
      this.#last = { pem, context: createSecureContext(pem) };
    }
    return this.#last.context;
  }
}

function isSame(one: DialTls, other: DialTls): boolean {
  return one.ca === other.ca && one.cert === other.cert && one.key === other.key;
}
