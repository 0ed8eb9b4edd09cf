/**
 * One direction of one link over the bus: numbered, each message answered, nothing lost without being noticed.
 */
import { AgentError } from '../../model/errors.ts';
import { MESSAGE_BYTES_LIMIT } from '../../model/link.ts';
import type { Bus } from './bus.ts';
import { BusAnswer, decode, encode, PART_BYTES } from './messages.ts';

/** Milliseconds for an answer, which a gateway gives when the agent's socket has taken the frame. */
const ANSWER_TIMEOUT_MS = 15_000;

export interface LaneParts {
  bus: Bus;
  subject: string;
  gateway: string;
  link: string;
}

/** The sending end. */
export class Lane {
  readonly #parts: LaneParts;
  #number = 0;

  constructor(parts: LaneParts) {
    this.#parts = parts;
  }

  /** @throws {AgentError} UNAVAILABLE: nobody is there, or no answer came. What the other side refused with. */
  post(message: { kind: string } & Record<string, unknown>, bytes?: Uint8Array): Promise<void> {
    const { bus, subject, gateway, link } = this.#parts;
    const head = { gateway, link, number: ++this.#number, ...message };
    return bus.request(subject, encode(head, bytes), ANSWER_TIMEOUT_MS).then(assertTaken);
  }

  /** Sends a frame, in as many parts as it takes; all of them leave in this turn. @throws {AgentError} as `post` */
  async frame(bytes: Uint8Array): Promise<void> {
    const parts: Promise<void>[] = [];
    for (let from = 0; from === 0 || from < bytes.length; from += PART_BYTES) {
      const more = from + PART_BYTES < bytes.length;
      parts.push(this.post({ kind: 'frame', more }, bytes.subarray(from, from + PART_BYTES)));
    }
    await Promise.all(parts);
  }
}

/** The receiving end. */
export class Inbox {
  #number = 0;
  #parts: Buffer[] = [];
  #bytes = 0;

  /** @throws {AgentError} ILLEGAL_STATE: a message is missing. */
  accept({ number }: { number: number }): void {
    if (number !== this.#number + 1) {
      throw new AgentError('ILLEGAL_STATE', `Message ${number} of a link came after ${this.#number}`);
    }
    this.#number = number;
  }

  /** The whole frame with its last part; null before. @throws {AgentError} LIMIT_REACHED: it is too long. */
  add(part: Buffer, { more }: { more: boolean }): string | null {
    this.#bytes += part.length;
    if (this.#bytes > MESSAGE_BYTES_LIMIT) throw new AgentError('LIMIT_REACHED', 'A frame is too long');
    this.#parts.push(part);
    if (more) return null;
    const whole = Buffer.concat(this.#parts).toString();
    this.#parts = [];
    this.#bytes = 0;
    return whole;
  }
}

function assertTaken(data: Uint8Array): void {
  const { error } = decode<BusAnswer>(BusAnswer, data).head;
  if (error !== undefined) throw AgentError.fromBody(error);
}
