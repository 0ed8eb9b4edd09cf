/**
 * Rows of instances, and the view of one with its disks and ports.
 */

import type { Drift, Restores } from '../../model/drift.ts';
import { AgentError } from '../../model/errors.ts';
import {
  completeSpec,
  type Desire,
  type Disowned,
  type Instance,
  type InstanceSpec,
  type Lifecycle,
  type Power,
  type PowerState,
  type Restarts,
  withoutSecrets,
} from '../../model/instance.ts';
import type { Policies } from '../../model/policy.ts';
import type { InstanceShare } from '../../model/share.ts';
import type { Database, Row } from '../../sqlite/database.ts';
import type { Volume } from '../../model/storage.ts';
import type { NetworkStore, Port } from './networks.ts';
import type { ShareStore } from './shares.ts';
import type { VolumeStore } from './volumes.ts';

/** The starts of an instance that its policies make due, and those that they have made. */
export interface RestartRecord {
  /** Why it is to be started by its policies; null when it is not. */
  due: 'crash' | 'boot' | null;
  /** When they have started it, milliseconds since the epoch, oldest first. */
  timesMs: number[];
  /** When the next start is due, milliseconds since the epoch. */
  nextAtMs: number | null;
  /** Why no further start comes, until its user asks for something or it runs again. */
  givenUp: string | null;
}

export const NO_RESTARTS: RestartRecord = { due: null, timesMs: [], nextAtMs: null, givenUp: null };
/** What the host kept of a definition when it was defined last. */
export interface BaselineRow {
  digest: string;
  writer: string;
}

/** What the policy `restore` has done. */
export interface RestoreRecord {
  /** When it has begun to restore, milliseconds since the epoch, oldest first. */
  timesMs: number[];
  /** Why it restores nothing more for now. */
  givenUp: string | null;
}

export const NO_RESTORES: RestoreRecord = { timesMs: [], givenUp: null };

/** The rows of what an instance has. */
export interface InstanceParts {
  readonly volumes: VolumeStore;
  readonly shares: ShareStore;
  readonly networks: NetworkStore;
}

export class InstanceStore {
  readonly #db: Database;
  readonly #parts: InstanceParts;

  constructor(db: Database, { volumes, shares, networks }: InstanceParts) {
    this.#db = db;
    this.#parts = { volumes, shares, networks };
  }

  /**
   * Its user-data and vendor-data are not kept: they are in the journal until the seed holds them.
   *
   * @param instance.generation @default 1
   * @param instance.lifecycle @default 'building'
   * @param instance.generationId @default its id
   * @param instance.seedBytes Bytes of what its seed holds. @default none of either
   */
  insert(instance: {
    id: string;
    spec: InstanceSpec;
    power: Power;
    createdAt: string;
    generation?: number;
    generationId?: string;
    lifecycle?: Lifecycle;
    seedBytes?: { userData: number; vendorData: number };
  }): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        'INSERT INTO instances (id, name, generation, generation_id, lifecycle, power_state, power_since, power_reason, spec, user_data_bytes, vendor_data_bytes, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      )
      .run(
        instance.id,
        instance.spec.name,
        instance.generation ?? 1,
        instance.generationId ?? instance.id,
        instance.lifecycle ?? 'building',
        instance.power.state,
        instance.power.since,
        instance.power.reason,
        JSON.stringify(withoutSecrets(instance.spec)),
        instance.seedBytes?.userData ?? 0,
        instance.seedBytes?.vendorData ?? 0,
        instance.createdAt,
      );
  }

  setLifecycle(id: string, lifecycle: Lifecycle): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE instances SET lifecycle = ? WHERE id = ?').run(lifecycle, id);
  }

  /** @param stoppedBy There where its own system has stopped it; it is news once, when the power changes. */
  setPower(id: string, { state, since, reason }: Power, stoppedBy?: 'guest'): void {
    this.#db.assertTransaction();
    this.#db
      .sql(
        'UPDATE instances SET stopped_by = CASE power_state WHEN ? THEN stopped_by ELSE ? END, power_state = ?, power_since = ?, power_reason = ? WHERE id = ?',
      )
      .run(state, stoppedBy ?? null, state, since, reason, id);
  }

  /** Whether its guest has shut itself down, and nobody has said anything about it since. */
  hasShutItselfDown(id: string): boolean {
    const row = this.#db.sql('SELECT stopped_by FROM instances WHERE id = ?').get(id);
    return row?.['stopped_by'] === 'guest';
  }

  /** What is wanted of it from now on, whatever was said or due before. */
  setDesired(id: string, desired: Desire): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE instances SET desired = ?, stopped_by = NULL WHERE id = ?').run(desired, id);
  }

  restartsOf(id: string): RestartRecord {
    const row = this.#db.sql('SELECT restarts FROM instances WHERE id = ?').get(id);
    return row === undefined || row['restarts'] === null
      ? NO_RESTARTS
      : JSON.parse(row['restarts'] as string);
  }

  setRestarts(id: string, record: RestartRecord): void {
    this.#db.assertTransaction();
    const isEmpty = JSON.stringify(record) === JSON.stringify(NO_RESTARTS);
    this.#db
      .sql('UPDATE instances SET restarts = ? WHERE id = ?')
      .run(isEmpty ? null : JSON.stringify(record), id);
  }

  setDisowned(id: string, disowned: Disowned | null): void {
    this.#db.assertTransaction();
    this.#db
      .sql('UPDATE instances SET disowned = ? WHERE id = ?')
      .run(disowned === null ? null : JSON.stringify(disowned), id);
  }

  setPolicies(id: string, policies: Policies): void {
    this.#db.assertTransaction();
    this.#db
      .sql("UPDATE instances SET spec = json_set(spec, '$.policies', json(?)) WHERE id = ?")
      .run(JSON.stringify(policies), id);
  }

  setGuest(id: string, guest: Instance['guest']): void {
    this.#db.assertTransaction();
    this.#db
      .sql('UPDATE instances SET guest = ? WHERE id = ?')
      .run(guest === null ? null : JSON.stringify(guest), id);
  }

  /** @param drift In what it has drifted; empty for in nothing. */
  setDrift(id: string, drift: Drift[]): void {
    this.#db.assertTransaction();
    this.#db
      .sql('UPDATE instances SET drift = ? WHERE id = ?')
      .run(drift.length === 0 ? null : JSON.stringify(drift), id);
  }

  baselineOf(id: string): BaselineRow | null {
    const row = this.#db.sql('SELECT baseline FROM instances WHERE id = ?').get(id);
    return row === undefined || row['baseline'] === null ? null : JSON.parse(row['baseline'] as string);
  }

  setBaseline(id: string, baseline: BaselineRow | null): void {
    this.#db.assertTransaction();
    this.#db
      .sql('UPDATE instances SET baseline = ? WHERE id = ?')
      .run(baseline === null ? null : JSON.stringify(baseline), id);
  }

  restoresOf(id: string): RestoreRecord {
    const row = this.#db.sql('SELECT restores FROM instances WHERE id = ?').get(id);
    return row === undefined || row['restores'] === null
      ? NO_RESTORES
      : JSON.parse(row['restores'] as string);
  }

  setRestores(id: string, record: RestoreRecord): void {
    this.#db.assertTransaction();
    const isEmpty = record.timesMs.length === 0 && record.givenUp === null;
    this.#db
      .sql('UPDATE instances SET restores = ? WHERE id = ?')
      .run(isEmpty ? null : JSON.stringify(record), id);
  }

  nextGeneration(id: string): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE instances SET generation = generation + 1 WHERE id = ?').run(id);
  }

  raiseGeneration(id: string, by: number): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE instances SET generation = generation + ? WHERE id = ?').run(by, id);
  }

  /** Whoever takes an instance back to a moment of before gives it another one. */
  setGenerationId(id: string, generationId: string): void {
    this.#db.assertTransaction();
    this.#db.sql('UPDATE instances SET generation_id = ? WHERE id = ?').run(generationId, id);
  }

  generationIdOf(id: string): string {
    return this.#db.sql('SELECT generation_id FROM instances WHERE id = ?').get(id)?.[
      'generation_id'
    ] as string;
  }

  remove(id: string): void {
    this.#db.assertTransaction();
    this.#db.sql('DELETE FROM instances WHERE id = ?').run(id);
  }

  /** Five statements in all, however many there are. */
  list(): Instance[] {
    const rows = this.#db.sql('SELECT * FROM instances ORDER BY name').all();
    const volumes = this.#parts.volumes.byInstance();
    const shares = this.#parts.shares.byInstance();
    const ports = this.#parts.networks.portsByInstance();
    const networks = this.#parts.networks.names();
    return rows.map((row) => {
      const id = row['id'] as string;
      return viewOf(row, {
        volumes: volumes.get(id) ?? [],
        shares: shares.get(id) ?? [],
        ports: ports.get(id) ?? [],
        networks,
      });
    });
  }

  /** Its power alone; null where there is no such instance. */
  powerOf(id: string): Power | null {
    const row = this.#db
      .sql('SELECT power_state, power_since, power_reason FROM instances WHERE id = ?')
      .get(id);
    return row === undefined ? null : toPower(row);
  }

  /** Those that the scheduler has disowned. */
  listDisowned(): Instance[] {
    return this.#db
      .sql('SELECT id FROM instances WHERE disowned IS NOT NULL ORDER BY name')
      .all()
      .map((row) => this.get(row['id'] as string));
  }

  /** Ids of all, without what each of them has. */
  ids(): string[] {
    return this.#db
      .sql('SELECT id FROM instances ORDER BY name')
      .all()
      .map((row) => row['id'] as string);
  }

  find(nameOrId: string): Instance | null {
    const row = this.#db.sql('SELECT * FROM instances WHERE id = ? OR name = ?').get(nameOrId, nameOrId);
    if (row === undefined) return null;
    const id = row['id'] as string;
    const { volumes, shares, networks } = this.#parts;
    return viewOf(row, {
      volumes: volumes.listOf(id),
      shares: shares.listOf(id),
      ports: networks.portsOf(id),
      networks: networks.names(),
    });
  }

  /** @throws {AgentError} NOT_FOUND */
  get(nameOrId: string): Instance {
    const instance = this.find(nameOrId);
    if (instance !== null) return instance;
    throw new AgentError('NOT_FOUND', `No instance ${nameOrId} on this node`, {
      hint: 'List them with `berth instance list`.',
    });
  }

  count(): number {
    return this.#db.sql('SELECT count(*) AS n FROM instances').get()?.['n'] as number;
  }

  countByPower(): Record<string, number> {
    const rows = this.#db.sql('SELECT power_state, count(*) AS n FROM instances GROUP BY power_state').all();
    return Object.fromEntries(rows.map((row) => [row['power_state'] as string, row['n'] as number]));
  }
}

interface ViewParts {
  volumes: Volume[];
  shares: InstanceShare[];
  ports: Port[];
  /** Names by id. */
  networks: ReadonlyMap<string, string>;
}

function viewOf(row: Row, { volumes, shares, ports, networks }: ViewParts): Instance {
  const id = row['id'] as string;
  const spec = completeSpec(JSON.parse(row['spec'] as string) as InstanceSpec);
  return {
    id,
    name: row['name'] as string,
    generation: row['generation'] as number,
    generationId: row['generation_id'] as string,
    lifecycle: row['lifecycle'] as Lifecycle,
    power: toPower(row),
    desired: row['desired'] as Desire,
    restarts: row['restarts'] === null ? null : restartsView(JSON.parse(row['restarts'] as string)),
    disowned: row['disowned'] === null ? null : JSON.parse(row['disowned'] as string),
    spec: withoutSecrets(spec),
    userDataBytes: row['user_data_bytes'] as number,
    vendorDataBytes: row['vendor_data_bytes'] as number,
    disks: volumes.map((volume) => ({
      volumeId: volume.id,
      volume: volume.name,
      pool: volume.pool,
      sizeGib: volume.sizeGib,
      deletedWithInstance: volume.deletedWithInstance,
    })),
    shares,
    nics: ports.map((port) => ({
      portId: port.id,
      network: networks.get(port.networkId) as string,
      macAddress: port.macAddress,
      ipAddress: port.ipAddress,
      tapName: port.tapName,
    })),
    guest: row['guest'] === null ? null : JSON.parse(row['guest'] as string),
    drift: row['drift'] === null ? [] : JSON.parse(row['drift'] as string),
    restores: row['restores'] === null ? null : restoresView(JSON.parse(row['restores'] as string)),
    createdAt: row['created_at'] as string,
  };
}

function toPower(row: Row): Power {
  return {
    state: row['power_state'] as PowerState,
    since: row['power_since'] as string,
    reason: row['power_reason'] as string,
  };
}

function restartsView({ timesMs, nextAtMs, givenUp }: RestartRecord): Restarts {
  const at = (ms: number | null | undefined) => (ms == null ? null : new Date(ms).toISOString());
  return { count: timesMs.length, lastAt: at(timesMs.at(-1)), nextAt: at(nextAtMs), givenUp };
}

function restoresView({ timesMs, givenUp }: RestoreRecord): Restores {
  const lastMs = timesMs.at(-1);
  return {
    count: timesMs.length,
    lastAt: lastMs === undefined ? null : new Date(lastMs).toISOString(),
    givenUp,
  };
}
