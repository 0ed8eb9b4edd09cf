/**
 * The ways in from this host, put together: dispatcher, local sockets, and the audit log that both write into.
 */
import type { Clock } from '../../drivers/contracts/clock.ts';
import type { Peers } from '../../drivers/contracts/peers.ts';
import { Refusals } from '../audit/refusals.ts';
import type { Config } from '../config/schema.ts';
import type { Uploads } from '../images/uploads.ts';
import type { Log } from '../log.ts';
import type { Operations } from '../operations/operations.ts';
import type { Store } from '../store/store.ts';
import { Dispatcher, type Readers, type ServingGate } from './dispatcher.ts';
import { LocalSocket } from './local-socket.ts';

export interface WaysInParts {
  config: Pick<Config, 'socket' | 'audit'>;
  store: Store;
  operations: Operations;
  readers: Readers;
  gate: ServingGate;
  uploads: Uploads;
  /** Tells who calls on a local socket; null where nobody can. */
  peers: Peers | null;
  clock: Clock;
  log: Log;
}

export class WaysIn {
  readonly dispatcher: Dispatcher;
  readonly #refusals: Refusals;
  /** The full one, and the read-only one where a group may use it. */
  readonly #sockets: readonly LocalSocket[];

  constructor({ config, store, operations, readers, gate, uploads, peers, clock, log }: WaysInParts) {
    const { audit, db, events } = store;
    audit.limitTo(config.audit.keepEntries);
    // In the log of the process, too, which others keep: what is cut off here is still there.
    audit.subscribe((entry) => log.info({ audit: entry }, 'audited'));
    this.#refusals = new Refusals({ db, audit, clock, log });
    this.dispatcher = new Dispatcher({ operations, readers, gate, audit, refusals: this.#refusals, log });
    const { path, group, readOnlyPath, readOnlyGroup } = config.socket;
    const parts = { dispatcher: this.dispatcher, events, uploads, peers, log };
    const full = new LocalSocket({ ...parts, path, group, access: 'full' });
    const readOnly = { ...parts, path: readOnlyPath, group: readOnlyGroup, access: 'read-only' } as const;
    this.#sockets = readOnlyGroup === '' ? [full] : [full, new LocalSocket(readOnly)];
  }

  /** @throws {AgentError} as LocalSocket does. */
  async listen(): Promise<void> {
    for (const socket of this.#sockets) await socket.listen();
  }

  /** Takes no more local callers. */
  async closeSockets(): Promise<void> {
    await Promise.all(this.#sockets.map((socket) => socket.close()));
  }

  /** Writes what is still to be written; the store is open until then. */
  close(): void {
    this.#refusals.close();
  }
}
