/**
 * The mirror: instances, operations and usage as nodes tell them, by events and by polls, kept in the store.
 *
 * Promises: a node speaks for its own instances only; what it does not tell is changed only by a listing
 * that was asked for after the instance was known here. Every method runs within a transaction of its caller.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { AgentError, type ErrorBody } from '../../model/errors.ts';
import type { BerthEvent } from '../../model/event.ts';
import { Instance } from '../../model/instance.ts';
import type { SnapshotKind } from '../../model/link.ts';
import { hasEnded, Operation } from '../../model/operation.ts';
import type { TSchema } from '../../model/schema.ts';
import { told } from '../../model/told.ts';
import { UsageRecord } from '../../model/usage.ts';
import { type Fault, findFault } from '../../model/validate.ts';
import type { Clock } from '../clock.ts';
import type { Claimer } from '../engines/claimer.ts';
import { bringsInstance } from '../store/commands.ts';
import type { InstanceRow } from '../store/instances.ts';
import type { Store } from '../store/store.ts';
import type { Waiters } from '../waiters.ts';

export interface MirrorParts {
  store: Store;
  waiters: Waiters;
  claimer: Pick<Claimer, 'releaseOnCommit'>;
  clock: Clock;
  logger: Logger;
}

export function operationTopic(id: string): string {
  return `operation:${id}`;
}

export class Mirror {
  readonly #parts: MirrorParts;

  constructor(parts: MirrorParts) {
    this.#parts = parts;
  }

  /** Takes what an event says about an instance or an operation. */
  applyEvent(nodeId: string, event: BerthEvent): void {
    switch (event.type) {
      case 'instance.created':
      case 'instance.changed':
      case 'instance.drifted':
        if (this.#fits(nodeId, event, Instance, 'instance')) {
          this.applyInstance(nodeId, event.data['instance'] as Instance);
        }
        break;
      case 'instance.deleted':
        this.applyDeleted(nodeId, String(event.data['id'] ?? event.target?.id));
        break;
      case 'operation.changed':
        if (this.#fits(nodeId, event, Operation, 'operation')) {
          this.applyOperation(nodeId, event.data['operation'] as Operation);
        }
        break;
      case 'usage.recorded':
        this.#takeUsage(nodeId, event);
        break;
      default: // the others are stored, and change nothing here
    }
  }

  applyInstance(nodeId: string, told: Instance): void {
    const { store, clock, logger } = this.#parts;
    const known = store.instances.get(told.id);
    if (known !== null && known.nodeId !== nodeId && known.phase !== 'failed') {
      logger.warn({ nodeId, instanceId: told.id, knownOn: known.nodeId }, 'two nodes tell of one instance');
      return;
    }
    // As most polls tell it: nothing is written, and the commit costs nothing.
    if (known?.phase === 'present' && isDeepStrictEqual(known.told, told)) return;
    const row: InstanceRow = {
      id: told.id,
      nodeId,
      name: told.name,
      phase: 'present',
      spec: told.spec,
      operationId: known?.operationId ?? null,
      told,
      error: known?.error ?? null,
      placement: known?.placement ?? {},
      createdAt: known?.createdAt ?? told.createdAt,
    };
    store.instances.put(row, clock.now());
  }

  /** The node has it no more. One whose creation has not succeeded is kept as failed, to be shown. */
  applyDeleted(nodeId: string, id: string): void {
    const { store, claimer } = this.#parts;
    const known = store.instances.get(id);
    if (known === null || known.nodeId !== nodeId || known.phase === 'failed') return;
    const creation =
      known.operationId === null ? null : store.operations.get(nodeId, known.operationId)?.operation;
    if (creation && creation.state !== 'succeeded') this.#fail(known, creation.error);
    else {
      store.instances.delete(id);
      claimer.releaseOnCommit(id);
    }
  }

  /**
   * Takes a whole listing.
   *
   * @param knownBefore As `applyAbsence`.
   */
  applyListing(nodeId: string, told: readonly Instance[], knownBefore: readonly string[]): void {
    for (const instance of told) this.applyInstance(nodeId, instance);
    this.applyAbsence(nodeId, new Set(told.map(({ id }) => id)), knownBefore);
  }

  /** Ids of the node's instances that it should list, if it is asked now. */
  expected(nodeId: string): string[] {
    return this.#parts.store.instances
      .ofNode(nodeId)
      .filter(({ phase }) => phase === 'accepted' || phase === 'present')
      .map(({ id }) => id);
  }

  /**
   * Takes what a whole listing did not have.
   *
   * @param knownBefore Ids that were expected when the listing was asked for: those of them that are not listed are gone.
   */
  applyAbsence(nodeId: string, listed: ReadonlySet<string>, knownBefore: readonly string[]): void {
    for (const id of knownBefore.filter((known) => !listed.has(known))) {
      const known = this.#parts.store.instances.get(id);
      if (known?.phase === 'accepted') this.#fail(known, null);
      else this.applyDeleted(nodeId, id);
    }
  }

  /** Takes one object of a snapshot; answers its id where it is an instance. */
  applyObject(nodeId: string, kind: SnapshotKind, object: unknown): string | null {
    const schema = kind === 'instance' ? Instance : kind === 'operation' ? Operation : null;
    if (schema === null) return null;
    const fault = findFault(told<TSchema>(schema), object);
    const id = String((object as { id?: unknown } | null)?.id);
    if (fault !== null) this.#parts.logger.warn({ nodeId, kind, id, ...fault }, 'an object does not fit');
    else if (kind === 'instance') this.applyInstance(nodeId, object as Instance);
    else this.applyOperation(nodeId, object as Operation);
    return kind === 'instance' ? id : null;
  }

  /** Stores the operation unless a newer view is there, and wakes who waits for it; answers the stored one. */
  applyOperation(nodeId: string, told: Operation): Operation {
    const { store, waiters, clock } = this.#parts;
    const operation = store.operations.put(nodeId, told, clock.now());
    if (bringsInstance(operation.kind) && hasEnded(operation.state)) this.#endCreation(nodeId, operation);
    store.db.onCommit(() => waiters.notify(operationTopic(operation.id)));
    return operation;
  }

  #endCreation(nodeId: string, operation: Operation): void {
    const { store, clock } = this.#parts;
    if (operation.state === 'succeeded') return;
    const instance = store.instances.get(operation.target.id);
    if (instance === null) return;
    // One that is its old node's again is so since the event before this one.
    if (instance.nodeId !== nodeId && instance.operationId !== operation.id) return;
    if (instance.told === null) this.#fail(instance, operation.error);
    else store.instances.put({ ...instance, error: operation.error }, clock.now());
  }

  #fail(instance: InstanceRow, error: ErrorBody | null): void {
    const because = error ?? instance.error ?? notThere(instance);
    const { store, clock, claimer } = this.#parts;
    const origin = instance.operationId === null ? null : store.commands.originOf(instance.operationId);
    // One that could not be restarted elsewhere is its old node's again: its volumes were given back.
    const left =
      origin === null
        ? ({ ...instance, phase: 'failed', told: null } as const)
        : ({ ...instance, phase: 'present', nodeId: origin.nodeId } as const);
    store.instances.put({ ...left, error: because }, clock.now());
    claimer.releaseOnCommit(instance.id);
  }

  /** Each record is taken by itself: one that does not fit costs the others nothing. */
  #takeUsage(nodeId: string, event: BerthEvent): void {
    const { store, clock, logger } = this.#parts;
    const { records } = event.data;
    for (const record of Array.isArray(records) ? records : [null]) {
      const fault = usageFault(record);
      if (fault === null) store.usage.add(nodeId, record as UsageRecord, clock.now());
      else logger.error({ nodeId, seq: event.seq, ...fault }, 'a usage record does not fit: it is not kept');
    }
  }

  /** An event whose data this version cannot read is kept as an event; the next poll tells what it meant. */
  #fits(nodeId: string, event: BerthEvent, schema: TSchema, key: string): boolean {
    const fault = findFault(told(schema), event.data[key]);
    if (fault === null) return true;
    const context = { nodeId, seq: event.seq, type: event.type, path: fault.path, message: fault.message };
    this.#parts.logger.warn(context, 'event data does not fit');
    return false;
  }
}

/** The end of its period is what it is found by. */
function usageFault(record: unknown): Fault | null {
  const fault = findFault(told(UsageRecord), record);
  if (fault !== null || !Number.isNaN(Date.parse((record as UsageRecord).periodEnd))) return fault;
  return { path: ['periodEnd'], message: 'is no time' };
}

function notThere(instance: InstanceRow): ErrorBody {
  return new AgentError(
    'NOT_FOUND',
    `The node has no instance ${instance.name} any more; its creation ended without it`,
  ).toBody();
}
