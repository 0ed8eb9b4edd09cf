/**
 * What every noun has: list, show, delete; and how an object is named in messages.
 */
import type { MethodName, OperationMethod, Params, Result } from '../../model/methods.ts';
import type { ObjectKind as AnyObjectKind } from '../../model/operation.ts';
import { EXIT } from '../failure.ts';
import type { ArgumentSpec, Given, Leaf } from '../leaf.ts';
import { CONFIRM_OPTIONS, confirm, OPERATION_OPTIONS, operate } from '../operate.ts';
import type { Look } from '../render/table.ts';

/** The node itself has no name to give, and a backup no name but its id. */
type ObjectKind = Exclude<AnyObjectKind, 'node' | 'backup'>;

/** The one argument of commands about an existing object. */
export function nameArgument(kind: ObjectKind): ArgumentSpec {
  return { name: 'name', summary: `name or id of the ${kind}`, completes: kind };
}

export function nameOf(given: Given): string {
  return given.argument('name');
}

interface ListOf<M extends MethodName> {
  method: M;
  plural: string;
  render: (result: Result<M>, look: Look) => string;
}

export function listLeaf<
  M extends 'instance.list' | 'image.list' | 'volume.list' | 'share.list' | 'pool.list' | 'network.list',
>(list: ListOf<M>): Leaf {
  return {
    name: 'list',
    summary: `List the ${list.plural} of this node`,
    doing: () => `list the ${list.plural}`,
    async run(session) {
      const result = await session.client.call(list.method, {} as Params<M>);
      await session.answerResult(list.method, result, list.render);
      return EXIT.done;
    },
  };
}

interface ShowOf<M extends MethodName> {
  method: M;
  kind: ObjectKind;
  render: (result: Result<M>, look: Look) => string;
}

export function showLeaf<
  M extends 'instance.show' | 'image.show' | 'volume.show' | 'share.show' | 'network.show',
>(show: ShowOf<M>): Leaf {
  return {
    name: 'show',
    summary: `Show one ${show.kind}`,
    args: [nameArgument(show.kind)],
    doing: (given) => `show ${show.kind} ${nameOf(given)}`,
    async run(session, given) {
      const result = await session.client.call(show.method, { id: nameOf(given) } as Params<M>);
      await session.answerResult(show.method, result, show.render);
      return EXIT.done;
    },
  };
}

interface DeleteOf {
  method: OperationMethod & `${ObjectKind}.delete`;
  kind: ObjectKind;
  summary: string;
  /** What is lost with it; undefined where it can be made again as it was, and nobody is asked. */
  loses?: string;
  /** Whether it can be wiped. @default no */
  wipes?: true;
  details?: string;
}

const WIPE_OPTION = {
  flag: 'wipe',
  summary: 'overwrite its bytes, in the background, before its room is free',
} as const;

const WIPE_DETAILS = [
  'A wipe writes zeros over the bytes of the file. Where the file system or the disk writes elsewhere (btrfs, snapshots,',
  'SSDs), the old bytes stay until their room is used again: there only encryption helps. Of an encrypted volume its LUKS header is overwritten, at once.',
].join('\n');

export function deleteLeaf({ method, kind, summary, loses, wipes, details }: DeleteOf): Leaf {
  const told = wipes ? WIPE_DETAILS : details;
  return {
    name: 'delete',
    summary,
    args: [nameArgument(kind)],
    options: [...(wipes ? [WIPE_OPTION] : []), ...CONFIRM_OPTIONS, ...OPERATION_OPTIONS],
    ...(told === undefined ? {} : { details: told }),
    doing: (given) => `delete ${kind} ${nameOf(given)}`,
    async run(session, given) {
      const id = nameOf(given);
      if (loses !== undefined) await confirm(session, given, `Delete ${kind} ${id} and ${loses}?`);
      const params = { id, ...(given.has('wipe') && { wipe: true }) };
      return operate(session, given, { method, params, done: `Deleted ${kind} ${id}` });
    },
  };
}
