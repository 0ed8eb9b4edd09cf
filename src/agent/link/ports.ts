/**
 * What the link needs of the rest of the agent, and no more: so that whatever else fulfils it speaks over the very same
 * link, as the fleet simulator does.
 */
import type { Database } from '../../sqlite/database.ts';
import type { Dispatcher } from '../api/dispatcher.ts';
import type { Ownership } from '../policies/ownership.ts';
import type { EventStore } from '../store/events.ts';
import type { InstanceStore } from '../store/instances.ts';
import type { MetaStore } from '../store/meta.ts';
import type { Outbox } from '../store/outbox.ts';

/** Events as the link tells them; numbered, kept until they are acknowledged. */
export interface LinkEvents
  extends Pick<EventStore, 'after' | 'at' | 'lastSeq' | 'acknowledge' | 'subscribe' | 'skipTo'> {
  readonly outbox: Pick<Outbox, 'id' | 'lostSeq' | 'renew'>;
}

export interface LinkStore {
  readonly db: Pick<Database, 'transaction'>;
  readonly meta: Pick<MetaStore, 'getNumber' | 'set'>;
  readonly events: LinkEvents;
  readonly instances: Pick<InstanceStore, 'ids' | 'count'>;
}

/** Answers what the scheduler asks. */
export type LinkDispatcher = Pick<Dispatcher, 'call'>;

/** Is told of what the scheduler says of the node's instances, and that it was heard. */
export type LinkOwnership = Pick<Ownership, 'answered' | 'heard' | 'ended' | 'lastContactAt'>;
