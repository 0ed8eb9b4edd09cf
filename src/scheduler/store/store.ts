/**
 * All tables of the scheduler behind one door.
 */

import { CommitRound } from '../../sqlite/commit-round.ts';
import { Database, type DatabaseOptions } from '../../sqlite/database.ts';
import { ClaimStore } from './claims.ts';
import { CommandStore } from './commands.ts';
import { EventStore } from './events.ts';
import { InstanceStore } from './instances.ts';
import { migrations } from './migrations/index.ts';
import { NodeStore } from './nodes.ts';
import { OperationStore } from './operations.ts';
import { OperatorLog } from './operator-log.ts';
import { OutboxStore } from './outboxes.ts';
import { TrustStore } from './trust.ts';
import { UsageStore } from './usage.ts';

const DATABASE = {
  name: 'scheduler.sqlite',
  folderMode: 0o700,
  owner: 'berth-scheduler',
  setting: '--state-dir',
  migrations,
  /** What hundreds of nodes need. */
  cacheKib: 16_384,
  /** Another scheduler may be just leaving, as in a restart. */
  busyTimeoutMs: 2_000,
};

export class Store {
  readonly db: Database;
  /** For what many write at once. */
  readonly round: CommitRound;
  readonly nodes: NodeStore;
  readonly events: EventStore;
  readonly outboxes: OutboxStore;
  readonly instances: InstanceStore;
  readonly operations: OperationStore;
  readonly commands: CommandStore;
  readonly claims: ClaimStore;
  readonly trust: TrustStore;
  readonly operatorLog: OperatorLog;
  readonly usage: UsageStore;

  /** @see Database for `folder`, `options` and errors. */
  constructor(folder: string, options?: DatabaseOptions) {
    this.db = new Database({ ...DATABASE, folder }, options);
    this.round = new CommitRound(this.db);
    this.nodes = new NodeStore(this.db);
    this.events = new EventStore(this.db);
    this.outboxes = new OutboxStore(this.db);
    this.instances = new InstanceStore(this.db);
    this.operations = new OperationStore(this.db);
    this.commands = new CommandStore(this.db);
    this.claims = new ClaimStore(this.db);
    this.trust = new TrustStore(this.db);
    this.operatorLog = new OperatorLog(this.db);
    this.usage = new UsageStore(this.db);
  }

  /** Who this scheduler is to others, for as long as its database lives. */
  identity(newId: () => string): string {
    return this.db.transaction(() => {
      const known = this.db.sql('SELECT id FROM identity').get();
      if (known !== undefined) return known['id'] as string;
      const id = newId();
      this.db.sql('INSERT INTO identity (id) VALUES (?)').run(id);
      return id;
    });
  }

  close(): void {
    this.round.flush();
    this.db.close();
  }
}
