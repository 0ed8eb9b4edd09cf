/** Methods of the node itself: its status, host, database and inventory. */
import { Fence, Sha256, strict } from '../common.ts';
import { TOKEN_LIMIT } from '../enrolment.ts';
import { NodeIdentity } from '../identity.ts';
import { LEAKS_LISTED_MAX, NodeLeaks, ThingName } from '../leak.ts';
import { NodeLoad } from '../load.ts';
import { type Method, none, operation, read } from '../method.ts';
import { Finding, ForeignGuest, Inventory, NodeStatus } from '../node.ts';
import { RecoveryReport } from '../recovery.ts';
import { Type } from '../schema.ts';

export const NODE_METHODS = {
  'node.status': read(
    'Tell how the node is, and what is not well: hypervisor, scheduler link, instances, operations.',
    none,
    NodeStatus,
  ),
  'node.doctor': read(
    'Look at the host and say what would keep it from running instances, and how to mend it.',
    none,
    strict({ findings: Type.Array(Finding) }),
  ),
  'node.recover': {
    ...read(
      'Take what is on the host and not in the database into it; change and delete nothing. Looks at the host.',
      strict({ dryRun: Type.Boolean({ default: false, description: 'only tell what would be done' }) }),
      RecoveryReport,
    ),
    role: 'admin',
    changes: true,
  },
  'node.backup': {
    ...read(
      'Copy the database to a new file while everything goes on.',
      strict({
        path: Type.String({
          pattern: '^/[^\\x00-\\x1f]{1,1023}$',
          description: 'absolute path of a file that is not there yet',
        }),
      }),
      strict({
        path: Type.String(),
        bytes: Type.Integer({ description: 'bytes of the file' }),
        sha256: Sha256,
      }),
    ),
    role: 'admin',
    changes: true,
  },
  'node.identity': read(
    'Tell by which certificate the node shows itself to its scheduler, and when that is renewed.',
    none,
    NodeIdentity,
  ),
  'node.enrol': {
    ...read(
      'Exchange an enrolment token for a certificate of this node; its key is made here and stays here.',
      strict({
        token: Type.String({
          maxLength: TOKEN_LIMIT,
          writeOnly: true,
          description: 'as `berth-scheduler token create` writes it',
        }),
      }),
      NodeIdentity,
    ),
    role: 'admin',
    changes: true,
  },
  'node.leaks': read(
    'Look at the host for what Berth has made there and nothing owns, and say what proves it.',
    none,
    NodeLeaks,
  ),
  'node.collect': {
    ...operation(
      'Remove leaks that the journal proves ours: those named, or all; never a guest that runs or a file in use.',
      strict({
        names: Type.Optional(
          Type.Array(ThingName, {
            minItems: 1,
            maxItems: LEAKS_LISTED_MAX,
            description: 'names as node.leaks tells them; all that are proven where absent',
          }),
        ),
        ...Fence,
      }),
    ),
    role: 'admin',
  },
  'node.foreign': read(
    'List the guests that Berth did not define, as they were seen last; they are never touched.',
    none,
    strict({ guests: Type.Array(ForeignGuest) }),
  ),
  'node.load': read(
    'Tell what the node really uses now, whatever is claimed: CPUs, stolen time, memory, pools. Looks at the host.',
    none,
    NodeLoad,
  ),
  'inventory.get': read(
    'Tell what the node has, what is taken, and what is left, by resource class.',
    none,
    Inventory,
  ),
} as const satisfies Record<string, Method>;
