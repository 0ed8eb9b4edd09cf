/** `berth node`: by which certificate the node shows itself to its scheduler. */
import type { NodeIdentity } from '../../model/identity.ts';
import { EXIT, usageError } from '../failure.ts';
import type { Leaf } from '../leaf.ts';
import { readTextFile } from '../read-file.ts';
import { fields, type Look } from '../render/table.ts';
import { clean } from '../render/text.ts';
import { formatUntil } from '../render/units.ts';

export const commands: readonly Leaf[] = [
  {
    name: 'enrol',
    summary: 'Exchange an enrolment token for a certificate of this node',
    options: [
      {
        flag: 'token-file',
        value: 'file',
        completes: 'file',
        summary: 'file with the token, or - for standard input',
      },
    ],
    details:
      'The key is made on this host and stays here. The token is no argument, since every user sees those.\n' +
      'A node that is enrolled is enrolled anew; the certificate before is shown until the new one has worked.',
    doing: () => 'enrol this node',
    async run(session, given) {
      const file = given.text('token-file');
      if (file === undefined) {
        throw usageError('--token-file is missing', {
          hint: 'Make a token with `berth-scheduler token create`.',
        });
      }
      const token = (await readTextFile(file, 'enrolment token', session.io)).trim();
      const identity = await session.client.call('node.enrol', { token });
      await session.answerResult('node.enrol', identity, renderIdentity);
      return EXIT.done;
    },
  },
  {
    name: 'identity',
    summary: 'Tell by which certificate the node shows itself to its scheduler',
    doing: () => 'tell the identity of this node',
    async run(session) {
      const identity = await session.client.call('node.identity', {});
      await session.answerResult('node.identity', identity, renderIdentity);
      return EXIT.done;
    },
  },
];

function renderIdentity(identity: NodeIdentity, look: Look): string {
  const { enrolled, scheduler, authority, serial, notAfter, renewAt, renewing, problem } = identity;
  if (!enrolled) return `Not enrolled${problem === null ? '' : `: ${clean(problem)}`}\n`;
  return fields(
    [
      ['Scheduler', clean(scheduler ?? '-')],
      ['Authority', `SHA-256 ${clean(authority ?? '-')}`],
      ['Certificate', `${clean(serial ?? '-')}${renewing ? ', the next one is on trial' : ''}`],
      ['Runs out', `${clean(notAfter ?? '-')} (${formatUntil(notAfter ?? '', look.nowMs)})`],
      ['Renewed', `${clean(renewAt ?? '-')} (${formatUntil(renewAt ?? '', look.nowMs)})`],
      ['Problem', problem === null ? 'none' : clean(problem)],
    ],
    look,
  );
}
