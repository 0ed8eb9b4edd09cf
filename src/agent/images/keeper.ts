/**
 * Keeper of the image cache: has images checked when their last check is old, and evicts the ones that were not used
 * for longest while they take more than the budget.
 *
 *   every KEEP_INTERVAL_MS, and after each import ─▶ decide (pure) ─▶ image.verify, image.delete as any caller's
 *
 * What it decides goes through the same admission as what people ask for: an image that a volume stands on is refused
 * there, in the transaction, whatever was decided before.
 */
import type { Unsubscribe } from '../../drivers/contracts/calls.ts';
import type { Clock } from '../../drivers/contracts/clock.ts';
import { AgentError } from '../../model/errors.ts';
import type { Image } from '../../model/storage.ts';
import { GIB } from '../../model/units.ts';
import type { Log } from '../log.ts';
import type { Operations } from '../operations/operations.ts';
import type { Store } from '../store/store.ts';

/** Pause between two looks at the cache, ms. */
const KEEP_INTERVAL_MS = 10 * 60_000;
/** An image younger than this is not evicted, ms: whoever fetched it is about to use it. */
const GRACE_MS = 3600_000;
const HOUR_MS = 3600_000;

export interface KeeperSettings {
  budgetGib: number;
  verifyHours: number;
}

/** An image with the number of volumes that stand on it. */
export type CachedImage = Image & { volumes: number };

export class ImageKeeper {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #operations: Operations;
  readonly #settings: KeeperSettings;
  #cancelTimer: () => void = () => undefined;
  #unsubscribe: Unsubscribe = () => undefined;

  constructor(parts: {
    store: Store;
    clock: Clock;
    log: Log;
    operations: Operations;
    settings: KeeperSettings;
  }) {
    this.#store = parts.store;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#operations = parts.operations;
    this.#settings = parts.settings;
  }

  start(): void {
    this.#unsubscribe = this.#store.events.subscribe(({ type }) => {
      if (type === 'image.created') this.#keepIn(0);
    });
    this.#keepIn(KEEP_INTERVAL_MS);
  }

  close(): void {
    this.#unsubscribe();
    this.#cancelTimer();
  }

  #keepIn(delayMs: number): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#clock.after(delayMs, () => {
      this.#keepIn(KEEP_INTERVAL_MS);
      this.#keep();
    });
  }

  #keep(): void {
    const nowMs = this.#clock.now();
    const images = this.#store.images
      .list()
      .map((image) => ({ ...image, volumes: this.#store.volumes.countOn(image.id) }));
    for (const { id } of evictions(images, this.#settings.budgetGib * GIB, nowMs)) {
      this.#ask('image.delete', id);
    }
    // One at a time: a check reads a whole image from the disk that guests use.
    const due = dueForCheck(images, this.#settings.verifyHours * HOUR_MS, nowMs);
    const busy = this.#store.operations.unfinished().some(({ kind }) => kind === 'image.verify');
    if (due !== null && !busy) this.#ask('image.verify', due.id);
  }

  #ask(method: 'image.delete' | 'image.verify', id: string): void {
    try {
      this.#operations.submit(method, { id }, 'image-policy');
    } catch (error) {
      const { code } = AgentError.from(error);
      this.#log.info({ method, image: id, code, error }, 'the image cache is kept later');
    }
  }
}

/** The images to evict, least recently used first, until the rest fits. Images of one digest share their room. */
export function evictions(images: readonly CachedImage[], budgetBytes: number, nowMs: number): Image[] {
  if (budgetBytes === 0) return [];
  const left = new Set(images);
  const evicted: Image[] = [];
  for (const image of images.filter((each) => isEvictable(each, nowMs)).toSorted(byLastUse)) {
    if (roomOf(left) <= budgetBytes) break;
    left.delete(image);
    evicted.push(image);
  }
  return evicted;
}

/** The image whose last check is oldest, where that is older than `intervalMs`; null where none is, or 0. */
export function dueForCheck(images: readonly Image[], intervalMs: number, nowMs: number): Image | null {
  if (intervalMs === 0) return null;
  const [oldest] = images
    .filter(({ state }) => state === 'ready')
    .toSorted((a, b) => checkedAtMs(a) - checkedAtMs(b));
  return oldest !== undefined && nowMs - checkedAtMs(oldest) >= intervalMs ? oldest : null;
}

function isEvictable({ state, pinned, volumes, createdAt }: CachedImage, nowMs: number): boolean {
  return state === 'ready' && !pinned && volumes === 0 && nowMs - Date.parse(createdAt) >= GRACE_MS;
}

function roomOf(images: Iterable<Image>): number {
  const files = new Map<string, number>();
  for (const { id, fileSha256, sizeBytes } of images) files.set(fileSha256 ?? id, sizeBytes);
  return [...files.values()].reduce((sum, bytes) => sum + bytes, 0);
}

function byLastUse(a: Image, b: Image): number {
  return Date.parse(a.lastUsedAt ?? a.createdAt) - Date.parse(b.lastUsedAt ?? b.createdAt);
}

function checkedAtMs({ verifiedAt, createdAt }: Image): number {
  return Date.parse(verifiedAt ?? createdAt);
}
