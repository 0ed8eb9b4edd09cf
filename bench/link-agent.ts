/**
 * The agent in a process of its own: what it does after an answer is not for whoever has that to wait for.
 *
 * Is told where to connect by its first message, and answers with its node's id; each other one is the name of a volume,
 * whose creation without the link it answers with in ms.
 */
import { once } from 'node:events';
import { nodeIdOf, startAgent, type Target, timedCommand } from './link-node.ts';

const [target] = (await once(process, 'message')) as [Target];
const stack = new AsyncDisposableStack();
const agent = await startAgent(target, stack);
const call = (method: string, params: object) => agent.dispatcher.call(method, params, { role: 'operate' });
process.on('message', (name: string) => {
  void timedCommand(call, name).then((ms) => process.send?.(ms));
});
process.once('disconnect', () => void stack.disposeAsync());
process.send?.(nodeIdOf(agent));
