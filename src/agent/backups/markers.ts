/**
 * Markers: who is writing to a repository, and who is removing from it. The two exclude each other, without a server of
 * locks, since a repository is all that its users share.
 *
 * Theory of operation: a writer puts its marker, then looks for removers; a remover puts its marker, then looks for
 * writers. Stores are consistent, so of two that begin at once at least one sees the other, takes its marker back and is told to
 * try again. Hence a writer may count on every chunk that it finds, and a remover on every manifest that it has read.
 *
 * A crashed user's marker would bar the others for ever: it counts only for its lifetime, by the store's clock. Whoever holds
 * one stops by itself at half of it, which leaves the other half for clocks that differ and calls that are slow.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { CallOptions } from '../../drivers/contracts/calls.ts';
import type { ObjectStore } from '../../drivers/contracts/objects.ts';
import { AgentError } from '../../model/errors.ts';

const HOUR_MS = 3_600_000;
/** A full backup of the largest disk over a slow line, and the time to take up a broken one. */
const WRITER_LIFETIME_MS = 14 * 24 * HOUR_MS;
const REMOVER_LIFETIME_MS = 24 * HOUR_MS;

type Role = 'writers' | 'removers';
const LIFETIMES: Record<Role, number> = { writers: WRITER_LIFETIME_MS, removers: REMOVER_LIFETIME_MS };

export class Markers {
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #root: string;

  constructor(store: ObjectStore, clock: Clock, root: string) {
    this.#store = store;
    this.#clock = clock;
    this.#root = root;
  }

  /**
   * Marks `id`; again for one that is marked already, as a writer does that goes on.
   *
   * @returns Throws once the marker is too old to go on under it.
   * @throws {AgentError} UNAVAILABLE: one of the other role is at work.
   */
  async begin(role: Role, id: string, options: CallOptions): Promise<() => void> {
    const sinceMs = this.#clock.now();
    await this.#store.put(this.#key(role, id), empty(), options);
    const others = await this.#living(role === 'writers' ? 'removers' : 'writers', options).catch(
      async (error) => {
        // Who can't look may not bar the others; where this fails too, the marker's lifetime ends it.
        await this.end(role, id, options).catch(() => undefined);
        throw error;
      },
    );
    if (others.length > 0) {
      await this.end(role, id, options);
      const what = role === 'writers' ? 'removed from' : 'written to';
      throw new AgentError('UNAVAILABLE', `The repository is being ${what} just now`, {
        hint: 'Try again later.',
        details: { others },
      });
    }
    return () => {
      if (this.#clock.now() - sinceMs <= LIFETIMES[role] / 2) return;
      throw new AgentError(
        'DEADLINE_EXCEEDED',
        'It took so long that others may take the repository for free',
      );
    };
  }

  async end(role: Role, id: string, options: CallOptions): Promise<void> {
    await this.#store.removeMany([this.#key(role, id)], options);
  }

  async #living(role: Role, options: CallOptions): Promise<string[]> {
    const prefix = `${this.#root}/${role}/`;
    const living: string[] = [];
    for (let after = ''; ; ) {
      const { objects, next } = await this.#store.list({ prefix, after }, options);
      for (const { key, modifiedAtMs } of objects) {
        if (this.#clock.now() - modifiedAtMs < LIFETIMES[role]) living.push(key.slice(prefix.length));
      }
      if (next === null) return living;
      after = next;
    }
  }

  #key(role: Role, id: string): string {
    return `${this.#root}/${role}/${id}`;
  }
}

async function* empty(): AsyncGenerator<Uint8Array> {}
