/**
 * Keeps those who come back from coming all at once: after an outage of the scheduler that is every node there is.
 *
 * So many links begin in a second and no more. Who is turned away is told when to come again, each another time, so
 * that they come one after the other. A node that comes again and again has a bucket of its own. Only who has proven to
 * be welcome counts: a stranger takes nobody's place.
 */
import { AgentError } from '../../model/errors.ts';
import { type BucketSize, TokenBucket } from '../../model/token-bucket.ts';
import type { Clock } from '../clock.ts';

/** A hello costs some milliseconds of the scheduler, with the poll that follows it: 200 a second leave it its breath. */
const LINKS: BucketSize = { burst: 500, refillMs: 5 };
/** A node that works connects once in a while; twenty times in a minute it does not. */
const PER_NODE: BucketSize = { burst: 20, refillMs: 3_000 };
/** Nodes whose buckets are kept. */
const NODES_LIMIT = 20_000;
/** The longest that anybody is told to wait, ms; who finds no room then is told anew. */
const WAIT_LIMIT_MS = 120_000;

export class Floodgate {
  readonly #clock: Pick<Clock, 'now'>;
  readonly #links: TokenBucket;
  readonly #slotMs: number;
  readonly #perNode: BucketSize;
  readonly #nodes = new Map<string, TokenBucket>();
  /** When the last one of those who were turned away is to come. */
  #lastSlotMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Pick<Clock, 'now'>, { links = LINKS, perNode = PER_NODE } = {}) {
    this.#clock = clock;
    this.#links = new TokenBucket(links);
    this.#slotMs = links.refillMs;
    this.#perNode = perNode;
  }

  /** @throws {AgentError} LIMIT_REACHED, with `details.retryAfterMs` */
  admitLink(): void {
    const nowMs = this.#clock.now();
    const waitMs = this.#links.take(nowMs);
    if (waitMs === 0) return;
    const lastMs = Math.min(this.#lastSlotMs, nowMs + WAIT_LIMIT_MS);
    this.#lastSlotMs = Math.max(lastMs, nowMs + waitMs) + this.#slotMs;
    throw comeLater('Too many nodes connect at once', this.#lastSlotMs - nowMs);
  }

  /** @throws {AgentError} LIMIT_REACHED, with `details.retryAfterMs` */
  admitNode(nodeId: string): void {
    const nowMs = this.#clock.now();
    const waitMs = this.#bucketOf(nodeId, nowMs).take(nowMs);
    if (waitMs > 0) throw comeLater(`Node ${nodeId} connects too often`, waitMs);
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
