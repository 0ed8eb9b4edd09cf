import t from 'tap';
import { wholeTree } from '../../src/cli/commands/tree.ts';
import { isGroup } from '../../src/cli/leaf.ts';
import { matchesGolden } from './support/golden.ts';
import { berth } from './support/run.ts';

t.test('each command has help', async (t) => {
  const paths = (await wholeTree())
    .filter((node) => isGroup(node) || !node.hidden)
    .flatMap((node) =>
      isGroup(node) ? [[node.name], ...node.commands.map(({ name }) => [node.name, name])] : [[node.name]],
    );
  let text = '';
  for (const path of [[], ...paths]) {
    const { code, stdout, stderr } = await berth([...path, '--help']);
    t.equal(code, 0);
    t.equal(stderr, '');
    text += `$ berth ${[...path, '--help'].join(' ')}\n${stdout}\n`;
  }
  matchesGolden(t, 'help', text);
});

t.test('the version is one line, or one document', async (t) => {
  t.match(await berth(['--version']), { code: 0, stdout: /^berth \d+\.\d+\.\d+\n$/ });
  t.match(JSON.parse((await berth(['--version', '--json'])).stdout), { version: /^\d+\.\d+\.\d+$/ });
});
