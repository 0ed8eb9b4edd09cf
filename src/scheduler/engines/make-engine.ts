/** Which engine a scheduler stands on: the one place that names their implementations. */
import type { Store } from '../store/store.ts';
import { EmbeddedEngine } from './embedded.ts';
import type { Engine } from './engine.ts';
import type { PlacementClientOptions } from './placement/client.ts';
import { PlacementEngine } from './placement/engine.ts';

export type EngineChoice = { name: 'embedded' } | ({ name: 'placement' } & PlacementClientOptions);

export function makeEngine(choice: EngineChoice, parts: { store: Store; newId: () => string }): Engine {
  switch (choice.name) {
    case 'embedded':
      return new EmbeddedEngine(parts.store.db);
    case 'placement':
      return new PlacementEngine({ ...choice, schedulerId: parts.store.identity(parts.newId) });
  }
}
