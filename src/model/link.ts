/**
 * What the two sides of a link agree on in the hello and its answer, and the messages that need such an agreement.
 *
 * Readers refuse what they don't know, so a side sends only what the other has said that it knows. It says so in `link`,
 * the one object in which unknown fields are passed over: new versions add a feature there, and send what belongs to it
 * to those alone who have it, too.
 */
import { Id, nullable, strict, timestampOf } from './common.ts';
import { JsonPatch } from './json-patch.ts';
import { type Static, type TProperties, Type } from './schema.ts';

/** Of `berth.v1`. 1.0 had no `link`; a number tells people what is spoken, and features what may be sent. */
export const PROTOCOL_VERSION = '1.1';

/**
 * - `deltas`: the inventory has revisions; hello and heartbeat may tell it as a patch of an acknowledged one
 * - `coalesced`: an event may tell in `after` that the numbers before it were taken together
 * - `snapshots`: what is gone of the events is made up for by a snapshot
 */
export const FEATURES = ['deltas', 'coalesced', 'snapshots'] as const;
export type Feature = (typeof FEATURES)[number];

/** Largest message either side takes, in bytes: a listing of 1,000 instances fits several times. */
export const MESSAGE_BYTES_LIMIT = 8 * 1024 * 1024;
/** Requests that one side may have unanswered on a link; more are answered LIMIT_REACHED. */
export const REQUESTS_IN_FLIGHT_LIMIT = 64;
/** Events that are sent and not yet acknowledged: enough for a round trip, few enough to be held in memory. */
export const EVENTS_IN_FLIGHT_LIMIT = 500;

/** An object of which unknown fields are passed over. */
function open<P extends TProperties>(properties: P, description: string) {
  return Type.Object(properties, { description });
}

const Version = Type.String({
  pattern: '^\\d{1,4}\\.\\d{1,4}$',
  description: 'of the protocol, such as 1.1',
});
const FeatureNames = (description: string) =>
  Type.Array(Type.String({ maxLength: 64 }), { maxItems: 64, description });
const MessageBytes = Type.Integer({ minimum: 65_536, description: 'largest message that this side takes' });
const Requests = Type.Integer({ minimum: 1, description: 'requests that this side lets be unanswered' });

export const LinkOffer = open(
  {
    version: Version,
    features: FeatureNames('what the agent can, besides what every agent can'),
    limits: open({ messageBytes: MessageBytes, requests: Requests }, 'what the agent takes'),
    outbox: open(
      {
        id: Id,
        keptAfter: Type.Integer({ minimum: 0, description: 'no event after this number is lost' }),
      },
      'the numbering of events; another id is another numbering, of a database that was lost or put back',
    ),
  },
  'what the agent speaks; needed for all that version 1.0 had not',
);
export type LinkOffer = Static<typeof LinkOffer>;

export const LinkTerms = open(
  {
    version: Version,
    features: FeatureNames('those of the offer that the scheduler can, too: from now on they are in use'),
    limits: open(
      {
        messageBytes: MessageBytes,
        requests: Requests,
        events: Type.Integer({ minimum: 1, description: 'events that it lets be unacknowledged' }),
      },
      'what the scheduler takes',
    ),
    fences: Type.Optional(
      Type.Integer({
        minimum: 0,
        description: 'fences of this node that there were, all of which this hello has ended',
      }),
    ),
    lastAt: nullable(
      timestampOf('`at` of the event `lastSeq`, so that the agent can tell whether it is the same event'),
    ),
  },
  'answer to the `link` of the hello; never without one',
);
export type LinkTerms = Static<typeof LinkTerms>;

/** A word that stands for one state of the inventory; nothing can be read from it. */
export const Revision = Type.String({ pattern: '^[\\x21-\\x7e]{1,64}$', description: 'of the inventory' });

export const InventoryDelta = strict(
  { base: Revision, patch: JsonPatch },
  { description: 'what has changed against an acknowledged revision' },
);
export type InventoryDelta = Static<typeof InventoryDelta>;

/** Objects that a snapshot tells, by the method that lists them. */
export const SNAPSHOT_KINDS = ['instance', 'volume', 'share', 'image', 'network', 'operation'] as const;
export type SnapshotKind = (typeof SNAPSHOT_KINDS)[number];

export const Snapshot = strict(
  {
    seq: Type.Integer({ minimum: 0, description: 'it stands for all events up to this one' }),
    part: Type.Integer({ minimum: 0, description: 'counted from 0, in order' }),
    last: Type.Boolean({ description: 'nothing follows; what was not told is not there any more' }),
    kind: Type.Enum([...SNAPSHOT_KINDS]),
    objects: Type.Array(Type.Unknown(), { description: 'as the list method of the kind tells them' }),
  },
  { description: 'in place of events that are gone: all that there is, in parts' },
);
export type Snapshot = Static<typeof Snapshot>;

/** The features of an offer that are known here. */
export function commonFeatures(offered: readonly string[]): Feature[] {
  return FEATURES.filter((feature) => offered.includes(feature));
}

/**
 * How messages are compressed, where both sides speak permessage-deflate (RFC 7692). No context is taken over from one
 * message to the next, and windows and chunks are small: a link that is compressed costs some ten KiB, not 300.
 */
export const COMPRESSION = {
  /**
   * Bytes below which a message goes as it is. It takes one way over any line, packed or not, and who unpacks one keeps what it
   * takes for that as long as the link lives: for 10,000 hellos that is a fifth of a gateway's memory.
   */
  threshold: 8_192,
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
  serverMaxWindowBits: 12,
  /** Fast: most of what there is to gain comes with the first levels. */
  zlibDeflateOptions: { level: 3, memLevel: 5, chunkSize: 4_096 },
  zlibInflateOptions: { chunkSize: 4_096 },
};
