/**
 * What an operation leaves half made when this version of Berth can neither end nor undo it.
 */
import { assertNever } from '../../model/errors.ts';
import type { ObjectKind } from '../../model/operation.ts';
import type { Store } from '../store/store.ts';

/**
 * Marks an object whose making was broken off for ever as one that can only be deleted: it is shown, it keeps
 * what it has taken, and its delete is not refused. Any other object stays as it is. Within a transaction.
 */
export function giveUpMaking(store: Store, { kind, id }: { kind: ObjectKind; id: string }): void {
  switch (kind) {
    case 'instance':
      if (store.instances.find(id)?.lifecycle !== 'building') return;
      store.instances.setLifecycle(id, 'deleting');
      store.tellInstance('instance.changed', id);
      return;
    case 'volume':
      if (store.volumes.find(id)?.state === 'creating') store.volumes.setState(id, 'deleting');
      return;
    case 'share':
      if (store.shares.find(id)?.state === 'creating') store.shares.setState(id, 'deleting');
      return;
    case 'image':
      if (store.images.find(id)?.state === 'importing') store.images.setState(id, 'deleting');
      return;
    case 'network':
      if (store.networks.find(id)?.state === 'creating') store.networks.setState(id, 'deleting');
      return;
    case 'node':
    case 'backup':
      return; // nothing is made of it
    default:
      assertNever(kind);
  }
}
