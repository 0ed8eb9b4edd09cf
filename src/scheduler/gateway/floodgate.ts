/**
 * Keeps those who come back from coming all at once: after an outage of the scheduler that is every node there is.
 *
 *   welcome ──▶ on their way in: so many at a time ──(hello dealt with)──▶ the next who waits
 *          └──▶ waiting, as many as get their turn soon ──▶ …
 *          └──▶ turned away, told when to come again: each another time, one after the other
 *
 * So links begin as fast as hellos are dealt with, on this machine and with what else it does, and not faster: the work
 * that the gateway has before it is bounded. How fast that is is measured while some wait, and says who finds a place to
 * wait and when the others are to come. There is a cap on it, and a node that comes again and again has a bucket of its
 * own. Only who has proven to be welcome counts: a stranger takes nobody's place.
 */
import { AgentError } from '../../model/errors.ts';
import { type BucketSize, TokenBucket } from '../../model/token-bucket.ts';
import type { Clock } from '../clock.ts';
import { Throughput } from './throughput.ts';

/** The cap: some at once, and then 1,000 a second, which no scheduler of ours has reached. */
const LINKS: BucketSize = { burst: 500, refillMs: 1 };
/** On their way in at a time: with 200 ms from the upgrade to the hello that is still 1,000 a second. */
const WINDOW = 200;
/** Milliseconds after which one who was let in, and says nothing, keeps nobody out any more. */
const ARRIVAL_LIMIT_MS = 2_000;
/** Who waits: each holds a socket and its request, some 10 KiB, and is to be a link, which takes five times that. */
const WAITING_LIMIT = 12_000;
/** How long an agent waits that does not say so, ms: those of before `Prefer` gave up after ten seconds. */
const UNTOLD_PATIENCE_MS = 10_000;
/** Nobody is let wait who is not to have a turn in this share of its patience: the measurement is of a moment ago. */
const HOPEFUL_SHARE = 0.8;
/** Milliseconds before its patience ends at which who waits all the same is turned away. */
const FAREWELL_MS = 3_000;
/** A node that works connects once in a while; twenty times in a minute it does not. */
const PER_NODE: BucketSize = { burst: 20, refillMs: 3_000 };
/** Nodes whose buckets are kept. */
const NODES_LIMIT = 20_000;
/** The longest that anybody is told to stay away, ms; who finds no room then is told anew. */
const WAIT_LIMIT_MS = 120_000;

/** To be called when the link that was let in is introduced, or gone. */
export type Arrived = () => void;

/** Who wants to come in. */
export interface Waiter {
  /** Milliseconds for which it waits. @default null: it has not said */
  patienceMs?: number | null;
  /** Aborted when it waits no more. @default never */
  gone?: AbortSignal;
}

interface Waiting {
  enter(arrived: Arrived): void;
  turnAway(error: AgentError): void;
}

export class Floodgate {
  readonly #clock: Pick<Clock, 'now' | 'after'>;
  readonly #links: TokenBucket;
  readonly #leastSlotMs: number;
  readonly #perNode: BucketSize;
  readonly #window: number;
  readonly #waitingLimit: number;
  readonly #nodes = new Map<string, TokenBucket>();
  readonly #waiting = new Set<Waiting>();
  readonly #throughput: Throughput;
  #onEased: () => void = () => undefined;
  #arriving = 0;
  #isPumpDue = false;
  /** When the last one of those who were turned away is to come. */
  #lastSlotMs = Number.NEGATIVE_INFINITY;

  /** @param options.window On their way in at a time. @param options.waiting Who may wait for that. */
  constructor(
    clock: Pick<Clock, 'now' | 'after'>,
    { links = LINKS, perNode = PER_NODE, window = WINDOW, waiting = WAITING_LIMIT } = {},
  ) {
    this.#clock = clock;
    this.#links = new TokenBucket(links);
    this.#leastSlotMs = links.refillMs;
    this.#perNode = perNode;
    this.#window = window;
    this.#waitingLimit = waiting;
    this.#throughput = new Throughput(clock);
  }

  /** How many wait to be let in. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Told when one who waited waits no more. */
  onEased(listener: () => void): void {
    this.#onEased = listener;
  }

  /**
   * Resolves when the link may begin.
   *
   * @throws {AgentError} LIMIT_REACHED, with `details.retryAfterMs`. UNAVAILABLE: closed. CANCELLED: it has gone.
   */
  async enter({ patienceMs, gone }: Waiter = {}): Promise<Arrived> {
    if (this.#waiting.size === 0 && this.#isOpen) return this.#letIn();
    const limitMs = patienceMs ?? UNTOLD_PATIENCE_MS;
    if (this.#waiting.size >= this.#placesToWait(limitMs)) throw this.#comeInTurn();
    return this.#wait(limitMs, gone);
  }

  /** @throws {AgentError} LIMIT_REACHED, with `details.retryAfterMs` */
  admitNode(nodeId: string): void {
    const nowMs = this.#clock.now();
    const waitMs = this.#bucketOf(nodeId, nowMs).take(nowMs);
    if (waitMs > 0) throw comeLater(`Node ${nodeId} connects too often`, waitMs);
  }

  /** Turns away all who wait. */
  close(): void {
    const error = new AgentError('UNAVAILABLE', 'The scheduler is stopping');
    for (const { turnAway } of this.#waiting) turnAway(error);
  }

  /** Takes a token where there is room. */
  get #isOpen(): boolean {
    return this.#arriving < this.#window && this.#links.take(this.#clock.now()) === 0;
  }

  #placesToWait(patienceMs: number): number {
    const hopefulMs = HOPEFUL_SHARE * (patienceMs - FAREWELL_MS);
    return Math.min(this.#waitingLimit, this.#throughput.perSecond * (hopefulMs / 1000));
  }

  #letIn(): Arrived {
    this.#arriving++;
    let isHere = false;
    const arrived = (): void => {
      if (isHere) return;
      isHere = true;
      forget();
      this.#arriving--;
      this.#pump();
    };
    const forget = this.#clock.after(ARRIVAL_LIMIT_MS, arrived);
    return () => {
      if (!isHere) this.#throughput.count({ isBusy: this.#waiting.size > 0 });
      arrived();
    };
  }

  #wait(patienceMs: number, gone?: AbortSignal): Promise<Arrived> {
    const { promise, resolve, reject } = Promise.withResolvers<Arrived>();
    const goAway = (): void => one.turnAway(new AgentError('CANCELLED', 'The agent has not waited'));
    const leave = (): void => {
      cancel();
      gone?.removeEventListener('abort', goAway);
      this.#waiting.delete(one);
      this.#onEased();
    };
    const one: Waiting = {
      enter: (arrived) => {
        leave();
        resolve(arrived);
      },
      turnAway: (error) => {
        leave();
        reject(error);
      },
    };
    const cancel = this.#clock.after(patienceMs - FAREWELL_MS, () => one.turnAway(this.#comeInTurn()));
    gone?.addEventListener('abort', goAway);
    this.#waiting.add(one);
    this.#pump();
    return promise;
  }

  /** Lets in who has waited longest, as far as there is room; for tokens it comes again. */
  #pump(): void {
    for (const { enter } of this.#waiting) {
      if (this.#arriving >= this.#window) return;
      const waitMs = this.#links.take(this.#clock.now());
      if (waitMs > 0) {
        this.#pumpIn(waitMs);
        return;
      }
      enter(this.#letIn());
    }
  }

  #pumpIn(delayMs: number): void {
    if (this.#isPumpDue) return;
    this.#isPumpDue = true;
    this.#clock.after(delayMs, () => {
      this.#isPumpDue = false;
      this.#pump();
    });
  }

  /** After all who wait, and all who were told so before. */
  #comeInTurn(): AgentError {
    const nowMs = this.#clock.now();
    const slotMs = Math.max(this.#leastSlotMs, 1000 / this.#throughput.perSecond);
    const lastMs = Math.min(this.#lastSlotMs, nowMs + WAIT_LIMIT_MS);
    this.#lastSlotMs = Math.max(lastMs, nowMs + (this.#waiting.size + 1) * slotMs) + slotMs;
    return comeLater('Too many nodes connect at once', this.#lastSlotMs - nowMs);
  }

  #bucketOf(nodeId: string, nowMs: number): TokenBucket {
    const known = this.#nodes.get(nodeId);
    if (known !== undefined) return known;
    if (this.#nodes.size >= NODES_LIMIT) this.#sweep(nowMs);
    const bucket = new TokenBucket(this.#perNode);
    this.#nodes.set(nodeId, bucket);
    return bucket;
  }

  /** Forgets who has not come for long, and if that is nobody, all: more nodes than there are come too often. */
  #sweep(nowMs: number): void {
    for (const [nodeId, bucket] of this.#nodes) if (bucket.isFull(nowMs)) this.#nodes.delete(nodeId);
    if (this.#nodes.size >= NODES_LIMIT) this.#nodes.clear();
  }
}

function comeLater(what: string, waitMs: number): AgentError {
  const retryAfterMs = Math.ceil(Math.min(waitMs, WAIT_LIMIT_MS));
  return new AgentError('LIMIT_REACHED', `${what}: come again in ${retryAfterMs} ms`, {
    details: { retryAfterMs },
  });
}
