/**
 * The node's identity: a key that never leaves it, and the certificate of the scheduler's authority for it.
 *
 * Theory of operation
 *
 *   enrol ─▶ key and request (pending) ─▶ exchange for the token ─▶ next ─▶ shown with success ─▶ current
 *   linked, two thirds of its life are over ─▶ key and request ─▶ identity.renew over the link ─▶ next ─▶ the link
 *     connects anew by it ─▶ hello answered ─▶ current. Where that fails, current is shown again, and the two by turns.
 *
 * The key before is overwritten only by one that has worked; where the scheduler has several addresses it is kept as previous
 * until the new one has worked at each of them, or it has run out. Each address has its own turn: what one of them refuses
 * another may take. A certificate is renewed where it was shown. What was begun and cut off goes on with the same key, so that
 * a token whose answer was lost gets the same certificate again.
 */
import { createHash, generateKeyPairSync, X509Certificate } from 'node:crypto';
import type { Clock } from '../../drivers/contracts/clock.ts';
import { type EnrolmentToken, IssuedCertificate, readToken } from '../../model/enrolment.ts';
import { AgentError } from '../../model/errors.ts';
import type { NodeIdentity } from '../../model/identity.ts';
import { parse } from '../../model/validate.ts';
import { BACKDATED_MS, CURVE, nodeOfCertificate } from '../../model/x509/names.ts';
import { makeRequest } from '../../model/x509/request.ts';
import type { Credentials, Dial } from '../link/credentials.ts';
import type { AskScheduler } from '../link/link.ts';
import type { Log } from '../log.ts';
import { exchange, findAuthority } from './exchange.ts';
import { belongTogether, IdentityFolder, type PendingFile, type Slot } from './folder.ts';

/** Looks whether it is time: a timer of months is not kept by every clock. Milliseconds. */
const LOOK_INTERVAL_MS = 3_600_000;
/** Part of its life after which a renewal that failed is tried again; at least a second. */
const RETRY_PART = 1 / 30;
const RETRY_MIN_MS = 1_000;
/** In the order in which they are shown. */
const SLOTS: readonly Slot[] = ['next', 'current', 'previous'];

export interface IdentityParts {
  stateDir: string;
  nodeId: string;
  clock: Clock;
  log: Log;
  /** Address of the scheduler in place of the token's. @default the token's */
  url?: string | undefined;
  /** How many addresses it has besides. @default 0 */
  alternates?: number;
}

export class Identity implements Credentials {
  readonly #parts: IdentityParts;
  readonly #folder: IdentityFolder;
  /** By address, which of the certificates is shown: counted on with each one that is not taken there. */
  readonly #turns = new Map<string, number>();
  /** Addresses at which the current certificate has worked. */
  readonly #workedAt = new Set<string>();
  /** By which one the link is up. */
  #shown: Slot = 'current';
  #isEnrolling = false;
  #isClosed = false;
  #problem: string | null = null;
  #cancelTimer: () => void = () => undefined;
  #onChange: () => void = () => undefined;

  constructor(parts: IdentityParts) {
    this.#parts = parts;
    this.#folder = new IdentityFolder(parts.stateDir);
  }

  /** Told when another certificate is to be shown from now on. */
  onChange(listener: () => void): void {
    this.#onChange = listener;
  }

  get isEnrolled(): boolean {
    return this.#folder.isEnrolled;
  }

  /** What keeps it from being enrolled or renewed. */
  get problem(): string | null {
    return this.#problem;
  }

  dial(alternate: string | null): Dial | null {
    const scheduler = this.#folder.scheduler();
    if (scheduler === null) return null;
    const url = alternate ?? this.#parts.url ?? scheduler.url;
    const slot = this.#slotFor(url);
    const { key, cert } = this.#folder.pair(slot) ?? {};
    if (key === undefined || cert === undefined) throw noCertificate();
    return {
      url,
      token: null,
      tls: { ca: scheduler.authority, cert, key },
      onAccepted: () => this.#worked(slot, url),
      onFailed: () => void this.#turns.set(url, this.#turnAt(url) + 1),
    };
  }

  /**
   * Enrols the node, or enrols it anew.
   *
   * @throws {AgentError} INVALID_ARGUMENT: no token. PERMISSION_DENIED: not good, or another scheduler than the
   * token's. UNAVAILABLE: the scheduler can't be reached. LIMIT_REACHED: an enrolment is under way.
   */
  async enrol(text: string): Promise<NodeIdentity> {
    const token = readToken(text);
    if (this.#isEnrolling) throw new AgentError('LIMIT_REACHED', 'An enrolment of this node is under way');
    this.#isEnrolling = true;
    try {
      await this.#enrol(token);
      this.#problem = null;
    } catch (thrown) {
      this.#enrolFailed(AgentError.from(thrown));
      throw thrown;
    } finally {
      this.#isEnrolling = false;
    }
    this.#onChange();
    return this.view();
  }

  /** Whether this token was used by this node already. @throws {AgentError} INVALID_ARGUMENT: it is none. */
  hasUsed(text: string): boolean {
    return this.#folder.scheduler()?.tokenDigest === digestOf(readToken(text).secret);
  }

  view(): NodeIdentity {
    const scheduler = this.#folder.scheduler();
    const next = this.#folder.pair('next');
    const pair = this.#folder.pair('current') ?? next;
    const certificate = pair === null || scheduler === null ? null : new X509Certificate(pair.cert);
    return {
      enrolled: certificate !== null,
      scheduler: scheduler === null ? null : (this.#parts.url ?? scheduler.url),
      authority: scheduler === null ? null : digestOfPem(scheduler.authority),
      serial: certificate?.serialNumber ?? null,
      notAfter: certificate === null ? null : iso(Date.parse(certificate.validTo)),
      renewAt: certificate === null ? null : iso(lifeOf(certificate).renewAt),
      renewing: next !== null,
      problem: this.#problem,
    };
  }

  /** A hello was answered: from now on the certificate can be renewed over this link. */
  linked(ask: AskScheduler): void {
    this.#cancelTimer();
    const pair = this.#folder.pair(this.#shown);
    if (!this.isEnrolled || pair === null) return;
    const { renewAt, lifeMs } = lifeOf(new X509Certificate(pair.cert));
    const waitMs = renewAt - this.#parts.clock.now();
    if (waitMs <= 0) void this.#renew(ask, lifeMs);
    else this.#later(Math.min(waitMs, LOOK_INTERVAL_MS), ask);
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelTimer();
    this.#onChange = () => undefined;
  }

  #later(delayMs: number, ask: AskScheduler): void {
    if (this.#isClosed) return;
    this.#cancelTimer = this.#parts.clock.after(delayMs, () => this.linked(ask));
  }

  #slotFor(url: string): Slot {
    const slots = SLOTS.filter((slot) => this.#isThere(slot));
    return slots[this.#turnAt(url) % slots.length] ?? 'current';
  }

  #turnAt(url: string): number {
    return this.#turns.get(url) ?? 0;
  }

  /** One of before that has run out is not there any more. */
  #isThere(slot: Slot): boolean {
    const pair = this.#folder.pair(slot);
    if (pair === null || slot !== 'previous') return pair !== null;
    return Date.parse(new X509Certificate(pair.cert).validTo) > this.#parts.clock.now();
  }

  #worked(slot: Slot, url: string): void {
    if (slot === 'next') this.#promote();
    this.#shown = slot === 'next' ? 'current' : slot;
    if (slot === 'previous') return;
    this.#workedAt.add(url);
    if (this.#workedAt.size > this.#alternates) this.#folder.removePrevious();
  }

  #promote(): void {
    const keepsPrevious = this.#alternates > 0 && this.#isOfAuthority('current');
    if (!keepsPrevious) this.#folder.removePrevious();
    this.#folder.promote({ keepsPrevious });
    this.#turns.clear();
    this.#workedAt.clear();
    this.#problem = null;
    const { serial, notAfter } = this.view();
    this.#parts.log.info({ serial, notAfter }, 'a new certificate of this node has worked');
  }

  get #alternates(): number {
    return this.#parts.alternates ?? 0;
  }

  /** Not of a scheduler at which the node was enrolled before. */
  #isOfAuthority(slot: Slot): boolean {
    const pair = this.#folder.pair(slot);
    const authority = this.#folder.scheduler()?.authority;
    if (pair === null || authority === undefined) return false;
    return new X509Certificate(pair.cert).verify(new X509Certificate(authority).publicKey);
  }

  async #enrol(token: EnrolmentToken): Promise<void> {
    const { nodeId } = this.#parts;
    const tokenDigest = digestOf(token.secret);
    const authority = await findAuthority(token);
    const { key, request } = this.#pendingFor(tokenDigest);
    const cert = await exchange(token, { authority, nodeId, request });
    this.#take(key, cert, authority);
    this.#folder.writeScheduler({ version: 1, url: token.url, authority, tokenDigest });
    this.#folder.removePending();
    this.#parts.log.info({ scheduler: token.url }, 'this node is enrolled');
  }

  /** A key is kept for another try only where that may succeed. */
  #enrolFailed(error: AgentError): void {
    if (!error.retryable) this.#folder.removePending();
    if (!this.isEnrolled) this.#problem = error.message;
  }

  async #renew(ask: AskScheduler, lifeMs: number): Promise<void> {
    try {
      const scheduler = this.#folder.scheduler();
      if (scheduler === null) return;
      const { key, request } = this.#pendingFor(null);
      const answer = await ask('identity.renew', { request });
      const { certificate } = parse(IssuedCertificate, answer, 'answer to identity.renew');
      this.#take(key, certificate, scheduler.authority);
      this.#folder.removePending();
      this.#onChange();
    } catch (thrown) {
      const error = AgentError.from(thrown);
      this.#problem = `its certificate could not be renewed: ${error.toBody().message}`;
      this.#parts.log.warn({ error }, 'the certificate of this node could not be renewed');
      this.#later(Math.max(RETRY_MIN_MS, lifeMs * RETRY_PART), ask);
    }
  }

  /** The key and request that were made for the same end before, or new ones. */
  #pendingFor(tokenDigest: string | null): PendingFile {
    const before = this.#folder.pending();
    if (before !== null && before.tokenDigest === tokenDigest) return before;
    const keys = generateKeyPairSync('ec', { namedCurve: CURVE });
    const pending: PendingFile = {
      version: 1,
      key: keys.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string,
      request: makeRequest(this.#parts.nodeId, keys).toString('base64'),
      tokenDigest,
    };
    this.#folder.writePending(pending);
    return pending;
  }

  /** Keeps a certificate that was made for the key, the node, and by the authority. */
  #take(key: string, cert: string, authority: string): void {
    const certificate = new X509Certificate(cert);
    const isOurs =
      belongTogether(key, cert) &&
      certificate.verify(new X509Certificate(authority).publicKey) &&
      nodeOfCertificate(certificate.subjectAltName) === this.#parts.nodeId;
    if (!isOurs) {
      throw new AgentError(
        'PERMISSION_DENIED',
        "The scheduler's certificate is not for the key of this node",
      );
    }
    this.#folder.writeNext({ key, cert: certificate.toString() });
    this.#turns.clear();
  }
}

/** @returns Milliseconds since the epoch, and of its life without what it was backdated by. */
function lifeOf({ validFrom, validTo }: X509Certificate): { renewAt: number; lifeMs: number } {
  const notAfter = Date.parse(validTo);
  const lifeMs = notAfter - Date.parse(validFrom) - BACKDATED_MS;
  return { renewAt: notAfter - lifeMs / 3, lifeMs };
}

function noCertificate(): AgentError {
  return new AgentError('UNAVAILABLE', 'This node has no certificate of its scheduler any more', {
    hint: 'Enrol it anew: berth node enrol.',
  });
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function digestOfPem(pem: string): string {
  return createHash('sha256').update(new X509Certificate(pem).raw).digest('hex');
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
