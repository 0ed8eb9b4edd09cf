import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { readCommandLine } from '../../src/conformance/options.ts';
import { jsonOf, lineOf, summaryOf } from '../../src/conformance/report.ts';
import type { Verdict } from '../../src/conformance/run.ts';

const run = promisify(execFile);
const PROGRAM = join(import.meta.dirname, '../../src/conformance/main.ts');

t.test('what is given is read', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-conformance-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'token'), 'word\n');
  const agent = [
    'agent',
    '--listen',
    '[::1]:0',
    '--token-file',
    join(folder, 'token'),
    '--changes',
    '--json',
  ];
  t.match(readCommandLine(agent), {
    side: 'agent',
    listen: { host: '::1', port: 0 },
    token: 'word',
    changes: true,
    json: true,
    only: [],
  });
  const scheduler = ['scheduler', '--url', 'wss://there:1', '--only', 'hello.answer', '--only', 'events.ack'];
  t.match(readCommandLine(scheduler), {
    side: 'scheduler',
    url: 'wss://there:1',
    token: null,
    only: ['hello.answer', 'events.ack'],
  });
});

for (const [what, argv, words] of [
  ['no side', [], /Usage/],
  ['another side', ['node'], /unknown command/],
  ['an address without a port', ['agent', '--listen', 'here'], /Such as/],
  ['a port that there is not', ['agent', '--listen', 'here:70000'], /Such as/],
  ['a clause that there is not', ['agent', '--only', 'all'], /There are: dial\.path/],
  ['no address of the scheduler', ['scheduler'], /--url/],
  ['an address with a path', ['scheduler', '--url', 'ws://there/v1'], /without a path/],
  ['an address that is no WebSocket', ['scheduler', '--url', 'http://there'], /Such as ws:/],
  ['a token that can not be read', ['agent', '--token-file', '/nowhere'], /can't be read/],
  ['more words', ['agent', 'more'], /too many arguments/],
] as const) {
  t.test(`${what} is refused`, async (t) => {
    let said = '';
    const say = (text: string) => {
      said += text;
    };
    t.throws(() => readCommandLine(argv, say));
    t.match(said, words);
  });
}

t.test('usage ends with 2', async (t) => {
  const args = ['--conditions=berth-source', PROGRAM, 'scheduler'];
  await t.rejects(run(process.execPath, args), { code: 2, stderr: /--url/ });
});

const VERDICTS: Verdict[] = [
  { id: 'a.one', level: 'must', text: 'does one', verdict: 'holds', why: '' },
  { id: 'a.two', level: 'should', text: 'does two', verdict: 'broken', why: 'it does not' },
];

t.test('only what must hold decides', async (t) => {
  t.match(summaryOf(VERDICTS), /1 hold, 1 broken, 0 untried: it conforms$/);
  t.match(summaryOf([{ ...(VERDICTS[1] as Verdict), level: 'must' }]), /does not conform: 1/);
  t.match(lineOf(VERDICTS[1] as Verdict), /^weak +a\.two +\(should\) does two\n +it does not$/);
  t.match(JSON.parse(jsonOf('agent', VERDICTS)), { side: 'agent', conforms: true, clauses: VERDICTS });
});
