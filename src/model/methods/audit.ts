/** Methods of the audit log. */
import { AuditEntry, AuditHead, AuditVerdict } from '../audit.ts';
import { limit, type Method, read } from '../method.ts';
import { strict } from '../common.ts';
import { Type } from '../schema.ts';

export const AUDIT_METHODS = {
  'audit.list': {
    ...read(
      'List entries of the audit log after a number, oldest first: who asked for which change, and what came of it.',
      strict({ after: Type.Integer({ minimum: 0, default: 0 }), limit }),
      strict({ entries: Type.Array(AuditEntry), head: AuditHead }),
    ),
    role: 'admin',
  },
  'audit.verify': {
    ...read(
      'Follow the hash chain of the audit log, and say whether an entry was changed, removed or moved.',
      strict({
        noted: Type.Optional({
          ...AuditHead,
          description: 'a head that was noted elsewhere before: the log has to contain it',
        }),
      }),
      AuditVerdict,
    ),
    role: 'admin',
  },
} as const satisfies Record<string, Method>;
