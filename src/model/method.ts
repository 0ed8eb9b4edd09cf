/**
 * What a method of the table is (methods.ts), and what those of one noun are written with.
 */
import { LIST_LIMIT, NameOrId, strict } from './common.ts';
import { Operation } from './operation.ts';
import { type TSchema, Type } from './schema.ts';

/** Each role may do what those before it may. */
export const ROLES = ['observe', 'operate', 'admin'] as const;
export type Role = (typeof ROLES)[number];

export interface Method<P extends TSchema = TSchema, R extends TSchema = TSchema> {
  kind: 'read' | 'operation';
  role: Role;
  /** One sentence, in the imperative. */
  summary: string;
  params: P;
  result: R;
  /** A higher role that some params need, and which. */
  raised?: { role: Role; words: string; needed(params: Record<string, unknown>): boolean };
  /** A read that changes something all the same; it is in the audit log, as every operation is. @default false */
  changes?: true;
  /** States of the object in which it is legal, for readers; src/model/lifecycle.ts decides. */
  legalIn?: string;
}

export const none = strict({});
export const one = strict({ id: NameOrId });
export const accepted = strict({ operation: Operation });
export const limit = Type.Integer({ minimum: 1, maximum: LIST_LIMIT, default: LIST_LIMIT });

type Read<P extends TSchema, R extends TSchema> = Method<P, R> & { kind: 'read' };
type Operating<P extends TSchema> = Method<P, typeof accepted> & { kind: 'operation' };

export function read<P extends TSchema, R extends TSchema>(
  summary: string,
  params: P,
  result: R,
): Read<P, R> {
  return { kind: 'read', role: 'observe', summary, params, result };
}

export function operation<P extends TSchema>(summary: string, params: P, legalIn?: string): Operating<P> {
  return {
    kind: 'operation',
    role: 'operate',
    summary,
    params,
    result: accepted,
    ...(legalIn ? { legalIn } : {}),
  };
}

export function roleAllows(has: Role, needs: Role): boolean {
  return ROLES.indexOf(has) >= ROLES.indexOf(needs);
}

/** Whether a call of it is in the audit log. */
export function isChange({ kind, changes }: Method): boolean {
  return kind === 'operation' || changes === true;
}
