/** `berth completion SHELL`, and the hidden command that the scripts ask for names. */
import { EXIT } from '../failure.ts';
import type { Completes, LeafBody } from '../leaf.ts';
import type { Session } from '../session.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** Kinds that have names to offer; files are the shell's own business. */
const NAME_KINDS = [
  'instance',
  'image',
  'volume',
  'share',
  'network',
  'pool',
  'operation',
] as const satisfies Completes[];

/** Most names offered: more cannot be read. */
const NAMES_LIMIT = 200;
/** Only what is a name or a UUID is offered: the words end up in a command line. */
const OFFERABLE = /^[a-z0-9-]{1,40}$/;

export const completion: LeafBody = {
  args: [{ name: 'shell', summary: 'the shell', choices: SHELLS }],
  details: [
    'Install it with one of:',
    '  berth completion bash > /etc/bash_completion.d/berth',
    '  berth completion zsh > /usr/local/share/zsh/site-functions/_berth',
    '  berth completion fish > /etc/fish/completions/berth.fish',
  ].join('\n'),
  doing: () => 'print the completion script',
  async run(session, given) {
    const [{ scriptFor }, { wholeTree }] = await Promise.all([
      import('../completion/script.ts'),
      import('./tree.ts'),
    ]);
    const shell = SHELLS.find((one) => one === given.argument('shell')) ?? 'bash';
    const script = scriptFor(shell, await wholeTree());
    session.answer({ shell, script }, () => script);
    return EXIT.done;
  },
};

export const completeNames: LeafBody = {
  args: [{ name: 'kind', summary: 'kind of object', choices: NAME_KINDS }],
  doing: () => 'list names',
  async run(session, given) {
    const kind = NAME_KINDS.find((one) => one === given.argument('kind')) ?? 'instance';
    const names = (await namesOf(session, kind)).filter((name) => OFFERABLE.test(name)).slice(0, NAMES_LIMIT);
    session.answer({ names }, () => names.map((name) => `${name}\n`).join(''));
    return EXIT.done;
  },
};

async function namesOf({ client }: Session, kind: (typeof NAME_KINDS)[number]): Promise<string[]> {
  switch (kind) {
    case 'instance':
      return (await client.call('instance.list', {})).instances.map(({ name }) => name);
    case 'image':
      return (await client.call('image.list', {})).images.map(({ name }) => name);
    case 'volume':
      return (await client.call('volume.list', {})).volumes.map(({ name }) => name);
    case 'share':
      return (await client.call('share.list', {})).shares.map(({ name }) => name);
    case 'network':
      return (await client.call('network.list', {})).networks.map(({ name }) => name);
    case 'pool':
      return (await client.call('pool.list', {})).pools.map(({ name }) => name);
    case 'operation':
      return (await client.call('operation.list', { limit: NAMES_LIMIT })).operations.map(({ id }) => id);
  }
}
