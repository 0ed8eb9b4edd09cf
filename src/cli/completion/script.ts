/**
 * Completion scripts, made from the command tree. Each is static but for the names of objects, for which it
 * asks `berth complete-names`, quietly: without an agent there are just no names.
 */
import type { Node } from '../leaf.ts';
import { bashScript } from './bash.ts';
import { fishScript } from './fish.ts';
import { viewOf } from './view.ts';
import { zshScript } from './zsh.ts';

export function scriptFor(shell: 'bash' | 'zsh' | 'fish', tree: readonly Node[]): string {
  const views = viewOf(tree);
  switch (shell) {
    case 'bash':
      return bashScript(views);
    case 'zsh':
      return zshScript(views);
    case 'fish':
      return fishScript(views);
  }
}
