/** `berth instance takeover`, from a file: what a scheduler asks for, by hand. */
import type { Params } from '../../model/methods.ts';
import { usageError } from '../failure.ts';
import type { Leaf } from '../leaf.ts';
import { OPERATION_OPTIONS, operate } from '../operate.ts';
import { readJsonFile } from '../read-file.ts';
import { checkSpec } from '../spec.ts';

export const takeoverLeaf: Leaf = {
  name: 'takeover',
  summary: "Make an instance of a node that runs nothing any more this one's, and start it here",
  options: [
    {
      flag: 'file',
      short: 'f',
      value: 'path',
      completes: 'file',
      summary: 'what is taken over, as JSON; - is standard input',
    },
    ...OPERATION_OPTIONS,
  ],
  details: [
    'A scheduler does this: berth-scheduler instance restart. By hand it is for a node without one.',
    'The file has id, spec, from (node, fence) and volumes (id, name, pool, sizeGib), as instance.takeover in docs/openrpc.json. The disks of the spec are the volumes, by id; all are in pools that both nodes share.',
    'See first that the old node is powered off, or cut off from its storage: an instance that runs twice destroys its disks. A number of the fence that has been is refused.',
    'Example:',
    '  berth instance takeover -f web.json',
  ].join('\n'),
  doing: (given) => `take over an instance from ${given.text('file') ?? 'a file'}`,
  async run(session, given) {
    const file = given.text('file');
    if (file === undefined) throw usageError('--file is missing', { hint: 'Say what is to be taken over.' });
    const said = await readJsonFile(file, 'takeover', session.io);
    if (typeof said !== 'object' || said === null || !('spec' in said))
      throw usageError(`The takeover in ${file} has no spec`, { hint: 'Nothing was asked of the agent.' });
    await checkSpec('instance.takeover', said.spec, file);
    const params = said as Params<'instance.takeover'>;
    const done = `Took over instance ${params.spec.name}`;
    return operate(session, given, { method: 'instance.takeover', params, done });
  },
};
