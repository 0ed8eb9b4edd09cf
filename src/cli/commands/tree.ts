/** Every command of `berth`, in the order in which help shows them. */
import type { Node } from '../leaf.ts';
import { call } from './call.ts';
import { completeNames, completionOf } from './completion.ts';
import { events } from './events.ts';
import { image } from './image.ts';
import { instance } from './instance.ts';
import { network } from './network.ts';
import { doctor, inventory, status } from './node.ts';
import { operation } from './operation.ts';
import { volume } from './volume.ts';

export const TREE: readonly Node[] = [
  status,
  doctor,
  inventory,
  instance,
  image,
  volume,
  network,
  operation,
  events,
  call,
  completionOf(() => TREE),
  completeNames,
];
