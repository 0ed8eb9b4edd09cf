/**
 * The events of the store on their way to a scheduler: in order, a window of them unacknowledged, none twice on a link.
 *
 * Theory of operation
 *   after(sent) ─▶ event ─▶ in flight ─▶ ack ─▶ the window moves
 *   What the store has taken together leaves holes in the numbers: `after` tells that nothing is missing.
 *   Where events are gone that were not sent yet (outbox.ts) a snapshot takes their place: all objects, in parts, as
 *   of the newest event of that moment; then the events after it. While it is sent, and while the socket is full, events wait.
 */
import type { BerthEvent } from '../../model/event.ts';
import { type Feature, SNAPSHOT_KINDS, type Snapshot, type SnapshotKind } from '../../model/link.ts';
import type { Log } from '../log.ts';
import type { Channel } from './channel.ts';
import type { LinkEvents } from './ports.ts';

/** Objects of one part of a snapshot are as many as fit in so many bytes, and one at least. */
const PART_BYTES = 256 * 1024;

export interface EventFeedParts {
  events: LinkEvents;
  channel: Channel;
  log: Log;
  /** What both sides can. */
  features: ReadonlySet<Feature>;
  /** Events that may be unacknowledged. */
  window: number;
  /** Largest message that the scheduler takes, bytes. */
  messageBytes: number;
  /** All objects of a kind, as its list method tells them. */
  list(kind: SnapshotKind): Promise<unknown[]>;
  /** Told what went wrong with what nobody waits for: a snapshot, and events that are sent later. */
  onFault(error: unknown): void;
}

export class EventFeed {
  readonly #parts: EventFeedParts;
  #sentSeq: number;
  /** Numbers that were sent and not acknowledged, in order. */
  #inFlight: number[] = [];
  #isBridging = false;
  #isClosed = false;
  #isWaiting = false;
  #isDue = false;
  readonly #unsubscribe: () => void;

  /** @param lastSeq The newest event that the scheduler has. @param onEvent Called for each event that is written. */
  constructor(parts: EventFeedParts, lastSeq: number, onEvent: (event: BerthEvent) => void) {
    this.#parts = parts;
    this.#sentSeq = Math.min(lastSeq, parts.events.lastSeq());
    this.#unsubscribe = parts.events.subscribe(onEvent);
  }

  close(): void {
    this.#isClosed = true;
    this.#unsubscribe();
  }

  /** Sends what the store has, as far as the window and the socket allow. */
  pump(): void {
    if (this.#isClosed || this.#isBridging) return;
    if (this.#hasGap) this.#bridge();
    else this.#pumpEvents();
  }

  /** The same at the end of the turn: what comes in one turn leaves in one packet, and behind the answer that is waited for. */
  pumpSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      this.#pumpApart();
    });
  }

  /** Where nobody waits for it who would hear of what goes wrong. */
  #pumpApart(): void {
    try {
      this.pump();
    } catch (error) {
      if (!this.#isClosed) this.#parts.onFault(error);
    }
  }

  /** A number that was not sent is the far side's mistake, and nothing of ours. */
  acknowledge(seq: number): void {
    if (seq > this.#sentSeq) return;
    const first = this.#inFlight.findIndex((each) => each > seq);
    this.#inFlight = first === -1 ? [] : this.#inFlight.slice(first);
    this.#parts.events.acknowledge(seq);
    this.pump();
  }

  get #hasGap(): boolean {
    const { features, events } = this.#parts;
    return features.has('snapshots') && this.#sentSeq < events.outbox.lostSeq;
  }

  #pumpEvents(): void {
    const { events, window, channel } = this.#parts;
    const room = window - this.#inFlight.length;
    if (room <= 0) return;
    const next = channel.isFull ? [] : events.after(this.#sentSeq, room);
    channel.together(() => {
      for (const event of next) {
        if (channel.isFull) break;
        this.#send(event);
      }
    });
    if (channel.isFull) this.#pumpLater();
  }

  #pumpLater(): void {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    void this.#parts.channel.room().then(() => {
      this.#isWaiting = false;
      this.#pumpApart();
    });
  }

  #send(event: BerthEvent): void {
    const { channel, features } = this.#parts;
    const hasHole = features.has('coalesced') && event.seq !== this.#sentSeq + 1;
    channel.sendText(this.#textOf(hasHole ? { ...event, after: this.#sentSeq } : event));
    this.#sentSeq = event.seq;
    this.#inFlight.push(event.seq);
  }

  /** One that no message of the scheduler's can hold would end every link: it is told without its data. */
  #textOf(event: BerthEvent): string {
    const text = textOf(event);
    const { messageBytes, log } = this.#parts;
    const sizeBytes = Buffer.byteLength(text);
    if (sizeBytes <= messageBytes) return text;
    log.warn({ seq: event.seq, sizeBytes }, 'an event is too large for the scheduler');
    return textOf({ ...event, data: { leftOutBytes: sizeBytes } });
  }

  /** What was sent before is acknowledged first: then nothing but the snapshot is in flight. */
  #bridge(): void {
    if (this.#inFlight.length > 0) return;
    this.#isBridging = true;
    void this.#tellAll().then(
      () => {
        this.#isBridging = false;
        this.#pumpApart();
      },
      (error: unknown) => !this.#isClosed && this.#parts.onFault(error),
    );
  }

  async #tellAll(): Promise<void> {
    const { events, log, messageBytes } = this.#parts;
    const partBytes = Math.min(PART_BYTES, messageBytes / 2);
    const seq = events.lastSeq();
    log.warn(
      { after: this.#sentSeq, seq },
      'events are gone that the scheduler has not: it is told all there is',
    );
    let part = 0;
    for (const kind of SNAPSHOT_KINDS) {
      const isLastKind = kind === SNAPSHOT_KINDS.at(-1);
      const groups = groupsOf(await this.#parts.list(kind), partBytes);
      for (const [index, objects] of groups.entries()) {
        const last = isLastKind && index === groups.length - 1;
        await this.#sendPart({ seq, part: part++, last, kind, objects });
      }
    }
    this.#sentSeq = seq;
    this.#inFlight.push(seq);
  }

  async #sendPart(params: Snapshot): Promise<void> {
    const { channel } = this.#parts;
    await channel.room();
    if (!this.#isClosed) channel.send({ jsonrpc: '2.0', method: 'snapshot', params });
  }
}

function textOf(event: BerthEvent): string {
  return JSON.stringify({ jsonrpc: '2.0', method: 'event', params: event });
}

/** One group at least, so that it is told where there is nothing. */
function groupsOf(objects: readonly unknown[], partBytes: number): unknown[][] {
  const groups: unknown[][] = [[]];
  let bytes = 0;
  for (const object of objects) {
    const size = Buffer.byteLength(JSON.stringify(object));
    if (bytes > 0 && bytes + size > partBytes) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)?.push(object);
    bytes += size;
  }
  return groups;
}
