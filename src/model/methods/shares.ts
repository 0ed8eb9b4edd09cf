/** Methods of shares. */
import { Fence, Name, NameOrId, nullable, ObjectFence, strict } from '../common.ts';
import { type Method, none, one, operation, read } from '../method.ts';
import { Type } from '../schema.ts';
import { AskedAccess, MountTag, QuotaGib, Share } from '../share.ts';

const isProtected = Type.Boolean({ description: 'not deleted until that is taken back' });

export const SHARE_METHODS = {
  'share.list': read('List the shares.', none, strict({ shares: Type.Array(Share) })),
  'share.show': read(
    'Show one share.',
    one,
    strict({ share: Share, path: Type.String({ description: 'its folder on the host' }) }),
  ),
  'share.create': operation(
    'Make a share: a folder on this node that guests mount by virtiofs.',
    strict({
      name: Name,
      quotaGib: Type.Optional(QuotaGib),
      protected: Type.Optional(isProtected),
      ...Fence,
    }),
  ),
  'share.attach': operation(
    'Give a share to an instance, which mounts it by a tag: the name of the share, where none is given.',
    strict({
      id: NameOrId,
      instance: NameOrId,
      tag: Type.Optional(MountTag),
      access: AskedAccess,
      ...ObjectFence,
    }),
    'ready; the instance ready, whatever its power state; one that was started without shares has to be stopped',
  ),
  'share.detach': operation(
    'Take a share from an instance; one that runs is asked to let it go.',
    strict({
      id: NameOrId,
      instance: NameOrId,
      timeoutSeconds: Type.Integer({
        minimum: 1,
        maximum: 600,
        default: 30,
        description: 'seconds given to the guest',
      }),
      ...ObjectFence,
    }),
    'ready; done when that instance does not have it',
  ),
  'share.configure': operation(
    'Rename a share, protect it from deletion, or change its quota; guests go on.',
    strict({
      id: NameOrId,
      name: Type.Optional(Name),
      protected: Type.Optional(isProtected),
      quotaGib: Type.Optional(
        nullable(QuotaGib, 'null: none; less than is there keeps guests from writing more'),
      ),
      ...Fence,
    }),
    'ready, used or not',
  ),
  'share.delete': operation(
    'Delete a share that no instance has, with all the files in it.',
    strict({ id: NameOrId, ...Fence }),
    'ready, unused and not protected',
  ),
} as const satisfies Record<string, Method>;
