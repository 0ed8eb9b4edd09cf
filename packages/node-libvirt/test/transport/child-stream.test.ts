/** A child process as a stream: data, back-pressure, its end and ours. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { type ChildEnd, ChildStream } from '../../src/transport/child-stream.ts';
import { until } from '../support/until.ts';

interface Started {
  child: ChildProcessWithoutNullStreams;
  stream: ChildStream;
  ends: ChildEnd[];
}

function start(script: string, explain: (end: ChildEnd) => Error | null = () => null): Started {
  const ends: ChildEnd[] = [];
  const child = spawn('sh', ['-c', script], { stdio: ['pipe', 'pipe', 'pipe'] });
  const stream = new ChildStream(child, (end) => {
    ends.push(end);
    return explain(end);
  });
  return { child, stream, ends };
}

t.test('what is written comes back, and the end of input is the end of the child', async (t) => {
  const { stream, ends } = start('cat; exit 3');
  let text = '';
  stream.on('data', (chunk: Buffer) => {
    text += chunk;
  });
  stream.write('one ');
  stream.end('two');
  await once(stream, 'close');
  t.equal(text, 'one two');
  t.match(ends, [{ code: 3, stderr: '', hasAnswered: true }]);
});

t.test('a reader that does not read stops the child', async (t) => {
  const { child, stream } = start('yes nlt-0123456789');
  await until(() => stream.readableLength >= stream.readableHighWaterMark, 'the buffer is full');
  const { readableLength } = stream;
  t.ok(child.stdout.isPaused());
  t.ok(readableLength < 1_000_000);
  stream.resume();
  await once(stream, 'data');
  stream.destroy();
  await once(stream, 'close');
  t.equal(child.signalCode ?? child.exitCode, 'SIGTERM');
});

t.test(
  'the error of a child that fails has the end of what it printed, and no write fails before it',
  async (t) => {
    const script = 'exec 0<&-; i=0; while [ $i -lt 500 ]; do echo "line $i" >&2; i=$((i+1)); done; exit 255';
    const { stream, ends } = start(script, ({ stderr }) => new Error(stderr.slice(-9)));
    stream.on('error', () => {});
    const closed = new Promise((resolve) => stream.once('close', resolve));
    const writes = setInterval(() => stream.write('x'.repeat(1000)), 1);
    await closed;
    clearInterval(writes);
    t.equal(stream.errored?.message, 'line 499\n');
    t.match(ends, [{ code: 255, hasAnswered: false }]);
    t.ok((ends[0]?.stderr.length ?? Infinity) <= 2_048);
  },
);

t.test('a child that ignores the end of its input and SIGTERM is killed', async (t) => {
  const { child, stream } = start("trap '' TERM; echo ready; while :; do read -r line || sleep 0.1; done");
  await once(stream, 'data');
  stream.destroy();
  await once(stream, 'close');
  t.equal(child.signalCode, 'SIGKILL');
});

t.test('pipes that a child leaves to another process do not keep the stream open', async (t) => {
  const { stream, ends } = start('echo $$; sleep 60 & exit 0');
  await once(stream, 'data');
  await once(stream, 'close');
  t.match(ends, [{ code: 0, hasAnswered: true }]);
});
