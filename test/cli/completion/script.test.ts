import { execFileSync, spawnSync } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { wholeTree } from '../../../src/cli/commands/tree.ts';
import { valuedOptions, viewOf } from '../../../src/cli/completion/view.ts';
import { fakeAgent } from '../support/fake-agent.ts';
import { idOf, instance, operation } from '../support/fixtures.ts';
import { berth } from '../support/run.ts';

const folder = await mkdtemp(join(tmpdir(), 'gcli-'));
t.teardown(() => rm(folder, { recursive: true }));

/** Stands in for the installed program: what it prints is a test of its own, below. */
async function installBerth(): Promise<string> {
  const program = join(folder, 'berth');
  await writeFile(
    program,
    '#!/bin/sh\necho "$@" >> "$0.log"\n[ "$3$1" = complete-namescomplete-names ] || echo demo\necho db\n',
  );
  await chmod(program, 0o755);
  return program;
}

async function scriptOf(shell: string): Promise<string> {
  const { code, stdout } = await berth(['completion', shell]);
  t.equal(code, 0);
  const file = join(folder, `berth.${shell}`);
  await writeFile(file, stdout);
  return file;
}

function completeInBash(script: string, words: string[]): string[] {
  const test = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _berth; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const printed = execFileSync('bash', ['-c', test, 'bash', script, ...words], {
    encoding: 'utf8',
    cwd: folder,
  });
  return printed.split('\n').filter((line) => line !== '');
}

t.test('bash completes commands, options, their values, and files', async (t) => {
  const script = await scriptOf('bash');
  execFileSync('bash', ['-n', script]);
  for (const [line, offered] of [
    ['inst', ['instance']],
    ['instance sto', ['stop']],
    ['instance stop --mode ', ['graceful', 'graceful-then-forced', 'forced']],
    ['instance stop --mode = gracefult', []],
    ['instance stop --mode = fo', ['forced']],
    ['--socket /x --json instance s', ['show', 'start', 'stop']],
    ['--socket instance im', ['image']],
    ['events --a', ['--after']],
    ['operation list --state su', ['succeeded']],
    ['instance create -f berth.b', ['berth.bash']],
    ['completion ', ['bash', 'zsh', 'fish']],
    ['complete-', []],
  ] as const) {
    t.strictSame(completeInBash(script, ['berth', ...line.split(' ')]), offered, line);
  }
});

t.test('bash asks the program that is completed for names, at the same socket', async (t) => {
  const script = await scriptOf('bash');
  const program = await installBerth();
  t.strictSame(completeInBash(script, [program, 'instance', 'show', 'd']), ['demo', 'db']);
  t.strictSame(completeInBash(script, [program, '--socket', '/x y', 'instance', 'show', 'de']), ['demo']);
  t.strictSame(
    completeInBash(script, [program, 'instance', 'show', 'demo', 'd']),
    [],
    'there is no second one',
  );
});

for (const shell of ['zsh', 'fish']) {
  const absent = spawnSync(shell, ['-c', 'true']).error ? `${shell} is not installed here` : false;
  t.test(`${shell} takes its script`, { skip: absent }, async (t) => {
    const { status, stderr } = spawnSync(shell, ['-n', await scriptOf(shell)], { encoding: 'utf8' });
    t.strictSame({ status, stderr }, { status: 0, stderr: '' });
  });
}

t.test('only what is a name is offered, whatever the agent says', async (t) => {
  const names = ['demo', '$(reboot)', 'a;b', '../x', 'x y', '-rf\n', 'a'.repeat(41)];
  const { socketPath } = await fakeAgent(t, {
    'instance.list': () => ({
      wire: 'bytes',
      status: 200,
      body: JSON.stringify({ instances: names.map((name) => ({ ...instance(), name })) }),
    }),
    'operation.list': () => ({ operations: [operation()] }),
  });
  t.equal((await berth(['complete-names', 'instance'], { socketPath })).stdout, 'demo\n');
  t.equal((await berth(['complete-names', 'operation'], { socketPath })).stdout, `${idOf(7)}\n`);
});

t.test('an option takes a value everywhere or nowhere, so that a script can skip it', async (t) => {
  const views = viewOf(await wholeTree());
  const valued = new Set(valuedOptions(views));
  const switches = views.flatMap(({ options }) => options.filter(({ takesValue }) => !takesValue));
  for (const { names, flag } of switches)
    t.notOk(
      names.some((name) => valued.has(name)),
      flag,
    );
});
