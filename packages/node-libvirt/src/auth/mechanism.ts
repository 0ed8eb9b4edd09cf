/** What a SASL mechanism is to the exchange (sasl.ts). SASL tells "no data" (null) from "empty data". */

export interface SaslClient {
  /** Whether all is said, and for a mechanism that proves the server, whether it is proven. */
  readonly isDone: boolean;
  /** The first message to the server. */
  start(): Buffer | null;
  /**
   * The answer to a message of the server.
   *
   * @throws {SaslError} It is not what this mechanism's server sends.
   */
  step(challenge: Buffer | null): Promise<Buffer | null>;
}

/**
 * What the server sent does not fit.
 *
 * - protocol: no server sends that
 * - auth: it refused us, or did not prove that it knows the password
 */
export class SaslError extends Error {
  override readonly name = 'SaslError';
  readonly kind: 'protocol' | 'auth';

  constructor(kind: 'protocol' | 'auth', message: string) {
    super(message);
    this.kind = kind;
  }
}
