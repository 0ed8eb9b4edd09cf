/** Which engine a scheduler stands on: the one place that names their implementations. */
import type { Store } from '../store/store.ts';
import { EmbeddedEngine } from './embedded.ts';
import type { Engine } from './engine.ts';

export type EngineChoice = { name: 'embedded' };

export function makeEngine(choice: EngineChoice, { store }: { store: Store }): Engine {
  switch (choice.name) {
    case 'embedded':
      return new EmbeddedEngine(store.db);
  }
}
