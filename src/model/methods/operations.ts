/** Methods of operations and events. */
import { NameOrId, nullable, strict } from '../common.ts';
import { BerthEvent } from '../event.ts';
import { accepted, limit, type Method, one, read } from '../method.ts';
import { OBJECT_KINDS, Operation, OPERATION_STATES } from '../operation.ts';
import { Type } from '../schema.ts';

export const OPERATION_METHODS = {
  'operation.list': read(
    'List operations, newest first.',
    strict({
      state: Type.Optional(Type.Enum([...OPERATION_STATES])),
      targetKind: Type.Optional(Type.Enum([...OBJECT_KINDS])),
      parentId: Type.Optional(
        Type.String({ format: 'uuid', description: 'UUID of an operation: only its parts' }),
      ),
      limit,
    }),
    strict({ operations: Type.Array(Operation) }),
  ),
  'operation.get': read(
    'Show one operation with its steps; with waitSeconds, answer as soon as it has ended.',
    strict({
      id: NameOrId,
      waitSeconds: Type.Integer({
        minimum: 0,
        maximum: 60,
        default: 0,
        description: 'seconds to wait for its end',
      }),
    }),
    strict({ operation: Operation }),
  ),
  'operation.cancel': {
    ...read('Ask an operation to stop; what it did is undone.', one, accepted),
    role: 'operate',
    changes: true,
  },

  'event.list': read(
    'List events after a sequence number, oldest first.',
    strict({ after: Type.Integer({ minimum: 0, default: 0 }), limit }),
    strict({
      events: Type.Array(BerthEvent),
      lastSeq: Type.Integer(),
      firstSeq: nullable(Type.Integer({ description: 'oldest one still kept' })),
    }),
  ),
} as const satisfies Record<string, Method>;
