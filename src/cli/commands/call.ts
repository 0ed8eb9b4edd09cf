/** `berth call`: any method of the agent, for debugging. */
import { EXIT } from '../failure.ts';
import type { LeafBody } from '../leaf.ts';
import { parseJson, readTextFile } from '../read-file.ts';
import { document } from '../render/json.ts';

export const call: LeafBody = {
  args: [
    { name: 'method', summary: 'method, such as node.status; docs/protocol.md lists them' },
    { name: 'params', summary: 'parameters as JSON; - is standard input (default: {})', optional: true },
  ],
  details: 'Example:\n  berth call instance.show \'{"id":"demo"}\'',
  doing: (given) => `call ${given.argument('method')}`,
  async run(session, given) {
    const words = given.text('params') ?? '{}';
    const text = words === '-' ? await readTextFile('-', 'parameters', session.io) : words;
    const result = await session.client.send(given.argument('method'), parseJson(text, 'the parameters'));
    session.answer(result, () => document(result));
    return EXIT.done;
  },
};
