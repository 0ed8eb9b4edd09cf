import t from 'tap';
import { ConsoleFilter } from '../../src/cli/console-filter.ts';
import { ConsoleTail } from '../../src/cli/console-tail.ts';
import { fakeAgent, type Handlers } from './support/fake-agent.ts';
import { berth } from './support/run.ts';

/** A guest's log that grows: each look at its size goes one step further. */
function growing(steps: readonly string[]): Handlers {
  let step = 0;
  return {
    'instance.console': ({ tailBytes }) => {
      const log = Buffer.from(steps[Math.min(step, steps.length - 1)] ?? '');
      if (step === 0 || tailBytes === 1) step += 1;
      return { text: log.subarray(Math.max(0, log.length - tailBytes)).toString(), totalBytes: log.length };
    },
  };
}

const HOSTILE = 'boot\r\n\u001b[31mred\u001b[0m\u001b]0;title\u0007 \u009b2J\u0008ok\n';

t.test(
  'the console is printed as it is into a pipe, and without commands to a terminal on a terminal',
  async (t) => {
    for (const [terminal, argv, printed] of [
      [false, [], HOSTILE],
      [true, [], 'boot\nred ok\n'],
      [true, ['--raw'], HOSTILE],
    ] as const) {
      const { socketPath } = await fakeAgent(t, growing([HOSTILE]));
      const { code, stdout } = await berth(['instance', 'console', 'demo', ...argv], {
        socketPath,
        terminal,
      });
      t.strictSame({ code, stdout }, { code: 0, stdout: printed });
    }
  },
);

t.test("a guest's prompt does not stand before the operator's shell", async (t) => {
  const { socketPath } = await fakeAgent(t, growing(['guest# ']));
  t.equal((await berth(['instance', 'console', 'demo'], { socketPath, terminal: true })).stdout, 'guest# \n');
  t.equal((await berth(['instance', 'console', 'demo'], { socketPath })).stdout, 'guest# ');
});

t.test('the console as JSON is one document', async (t) => {
  const { socketPath, calls } = await fakeAgent(t, growing([HOSTILE]));
  const argv = ['instance', 'console', 'demo', '--json', '--tail-bytes', '1000'];
  const { stdout } = await berth(argv, { socketPath, terminal: true });
  t.strictSame(JSON.parse(stdout), { text: HOSTILE, totalBytes: Buffer.byteLength(HOSTILE) });
  t.strictSame(calls[0]?.params, { id: 'demo', tailBytes: 1000 });
});

t.test('following prints what grows, exactly once, until nobody reads any more', async (t) => {
  const { socketPath } = await fakeAgent(t, growing(['one\n', 'one\n', 'one\ntwo\n', 'one\ntwo\nthree ä\n']));
  const { code, stdout } = await berth(['instance', 'console', 'demo', '--follow'], {
    socketPath,
    onSleep: ({ hangUp, stdout: sofar }) => sofar.includes('three') && hangUp(),
  });
  t.strictSame({ code, stdout }, { code: 0, stdout: 'one\ntwo\nthree ä\n' });
});

t.test('a log that was begun anew is printed from its beginning', async (t) => {
  const { socketPath } = await fakeAgent(t, growing(['long before\n', 'new\n']));
  const { stdout } = await berth(['instance', 'console', 'demo', '--follow'], {
    socketPath,
    onSleep: ({ hangUp, stdout: sofar }) => sofar.includes('new') && hangUp(),
  });
  t.equal(stdout, 'long before\nnew\n');
});

t.test('a log that grows between two reads is read again, and a gap is told', async (t) => {
  const sizes = [100, 200, 200];
  const tail = new ConsoleTail(
    async (tailBytes) => ({ text: 'x'.repeat(tailBytes), totalBytes: sizes.shift() ?? 0 }),
    50,
  );
  t.strictSame(await tail.grown(), { text: 'x'.repeat(150), missedBytes: 0 });
  let size = 1000;
  const racing = new ConsoleTail(async (tailBytes) => {
    size += 10;
    return { text: 'y'.repeat(tailBytes), totalBytes: size };
  }, 1000);
  t.match(await racing.grown(), { missedBytes: 10 });
});

t.test('the filter takes out whole sequences, also where they are split', async (t) => {
  for (const [input, output] of [
    ['plain ä 漢 text\n\tx', 'plain ä 漢 text\n\tx'],
    ['\u001b[1;31mred\u001b[0m', 'red'],
    ['\u001b]0;title\u0007a\u001b]2;t\u001b\\b', 'ab'],
    ['\u001bPq#0\u001b\\a\u001b_x\u009cb\u001b^y\u001b\\c\u001bXz\u0007d', 'abcd'],
    ['\u009b31ma\u009d0;t\u009cb\u0090q\u009cc', 'abc'],
    ['\u001b(Ba\u001b=b\u001bcc\u001b#8d', 'abcd'],
    ['a\rb\r\nc\r\r\nd', 'a\nb\nc\nd'],
    ['a\u0000\u0007\u0008\u007f\u202e\u200b\u2028b', 'ab'],
    ['\u001b]0;never ends\nnext', '\nnext'],
    ['\u001b[12\nnext', '\nnext'],
    [`\u001b]${'x'.repeat(5000)}`, 'x'.repeat(905)],
    ['\u001b\u001b[1ma', 'a'],
  ] as const) {
    t.equal(new ConsoleFilter().push(input), output, encodeURI(input).slice(0, 60));
    const split = new ConsoleFilter();
    t.equal([...input].map((character) => split.push(character)).join(''), output, 'one character at a time');
  }
});
