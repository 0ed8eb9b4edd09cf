import { readFile } from 'node:fs/promises';
import t from 'tap';
import { HostExec, ProcessError } from '../../../src/drivers/host/exec.ts';
import { isGone } from './wait.ts';

const exec = new HostExec();
const nameOf = (line: string) => line.slice(0, line.indexOf('='));
const sh = (script: string, options = {}) => exec.run('sh', ['-c', script], options);

t.test('a program gets a clean environment, its arguments as they are, and its input', async (t) => {
  process.env['BERTH_SECRET'] = 'x';
  t.teardown(() => delete process.env['BERTH_SECRET']);
  const { stdout } = await exec.run('env', ['-0'], { env: { EXTRA: '1' } });
  const names = stdout.split('\0').slice(0, -1).map(nameOf);
  // tap's own are put into every child of a test.
  const ours = names.filter((name) => !name.startsWith('_TAPJS') && name !== 'NODE_OPTIONS');
  t.same(ours.sort(), ['EXTRA', 'HOME', 'LC_ALL', 'PATH']);
  t.equal((await exec.run('printf', ['%s', '$(id); `id` "\' *'])).stdout, '$(id); `id` "\' *');
  t.equal((await exec.run('cat', [], { input: 'héllo' })).stdout, 'héllo');
  t.equal((await exec.run('cat', [])).stdout, '');
});

t.test(
  'an exit code is an answer where the caller says so, else a failure with the words of the tool',
  async (t) => {
    t.equal((await sh('exit 3', { okCodes: [0, 3] })).exitCode, 3);
    await t.rejects(sh('echo why >&2; exit 4'), new ProcessError('sh', 4, 'why', 'ended with exit code 4'));
    await t.rejects(sh('kill -9 $$'), { name: 'ProcessError', exitCode: null, message: /SIGKILL/ });
  },
);

t.test('a program that is not installed is UNSUPPORTED, also under resource limits', async (t) => {
  await t.rejects(exec.run('no-such-program', []), {
    code: 'UNSUPPORTED',
    message: /no-such-program is not/,
  });
  await t.rejects(exec.run('no-such-program', [], { limits: { cpuSeconds: 1 } }), { code: 'UNSUPPORTED' });
});

t.test('arguments that no program can be given are invalid', async (t) => {
  await t.rejects(exec.run('true', ['a\0b']), { code: 'INVALID_ARGUMENT' });
  await t.rejects(exec.run('true', ['x'.repeat(1_000_000)]), { code: 'INVALID_ARGUMENT' });
});

t.test(
  'at its deadline a program is killed with its own children, and is gone when the caller hears of it',
  async (t) => {
    const pids: string[] = [];
    const onStdout = (chunk: string) => void pids.push(...chunk.trim().split('\n'));
    await t.rejects(sh('sleep 60 & echo $!; echo $$; wait', { timeoutMs: 2_000, onStdout }), {
      code: 'DEADLINE_EXCEEDED',
      message: 'sh: not done in 2000 ms',
    });
    t.equal(pids.length, 2);
    for (const pid of pids) t.ok(await isGone(pid));
  },
);

t.test(
  'a descendant that left the group and holds the output does not keep the caller waiting',
  async (t) => {
    let pid = '';
    const onStdout = (chunk: string) => {
      pid ||= chunk.trim();
    };
    await t.rejects(sh('setsid sleep 60 & echo $!; wait', { timeoutMs: 2_000, onStdout }), {
      code: 'DEADLINE_EXCEEDED',
    });
    if (pid !== '' && !(await isGone(pid, 0))) process.kill(Number(pid), 'SIGKILL');
  },
);

t.test('a caller that cancels has the program killed; cancelled before, it is never started', async (t) => {
  const controller = new AbortController();
  const running = sh('echo started; exec sleep 60', {
    signal: controller.signal,
    onStdout: () => controller.abort(),
  });
  await t.rejects(running, { code: 'CANCELLED' });
  await t.rejects(sh('true', { signal: controller.signal }), { code: 'CANCELLED' });
});

t.test('more output than the limit, of both streams together, kills the program', async (t) => {
  await t.rejects(exec.run('yes', [], { outputLimitBytes: 1000 }), {
    code: 'LIMIT_REACHED',
    details: { outputLimitBytes: 1000 },
  });
  t.equal((await sh('printf 12345; printf 67890 >&2', { outputLimitBytes: 10 })).stdout, '12345');
  await t.rejects(sh('printf 12345; printf 67890 >&2', { outputLimitBytes: 9 }), { code: 'LIMIT_REACHED' });
});

t.test('input that the program does not read is no failure of its own', async (t) => {
  t.equal((await exec.run('true', [], { input: Buffer.alloc(1_000_000) })).exitCode, 0);
});

t.test('resource limits hold', async (t) => {
  const limits = { addressSpaceBytes: 512 * 1024 * 1024, cpuSeconds: 7, fileSizeBytes: 0 };
  const { stdout } = await exec.run('cat', ['/proc/self/limits'], { limits });
  t.match(stdout, /Max cpu time +7 +7 /);
  t.match(stdout, /Max file size +0 +0 /);
  t.match(stdout, /Max address space +536870912 +536870912 /);
});

t.test('no more than 16 run at once; the others wait, and their deadline runs meanwhile', async (t) => {
  const own = new HostExec();
  const controller = new AbortController();
  let started = 0;
  const all = Promise.withResolvers<void>();
  const onStdout = () => {
    if (++started === 16) all.resolve();
  };
  const hold = Array.from({ length: 16 }, () =>
    own.run('sh', ['-c', 'echo; exec sleep 60'], { signal: controller.signal, onStdout }),
  );
  const held = Promise.allSettled(hold);
  await all.promise;
  await t.rejects(own.run('true', [], { timeoutMs: 50 }), { code: 'DEADLINE_EXCEEDED' });
  await t.rejects(own.run('true', [], { signal: AbortSignal.timeout(50) }), { code: 'CANCELLED' });
  const next = own.run('echo', ['next']);
  controller.abort();
  t.equal((await next).stdout, 'next\n');
  t.ok((await held).every(({ status }) => status === 'rejected'));
  const many = await Promise.all(Array.from({ length: 40 }, (_, i) => own.run('echo', [String(i)])));
  t.same(
    many.map(({ stdout }) => Number(stdout)),
    Array.from({ length: 40 }, (_, i) => i),
  );
});

t.test('callers beyond the waiting limit are refused at once', async (t) => {
  const own = new HostExec();
  const controller = new AbortController();
  const options = { signal: controller.signal };
  const calls = Array.from({ length: 16 + 1024 }, () => own.run('sleep', ['60'], options));
  const settled = Promise.allSettled(calls);
  await t.rejects(own.run('true', []), { code: 'LIMIT_REACHED', message: /1024 calls wait/ });
  controller.abort();
  await settled;
  t.equal((await own.run('echo', ['free'])).stdout, 'free\n');
});

t.test('no child is left behind', async (t) => {
  const children = await readFile(`/proc/self/task/${process.pid}/children`, 'utf8');
  t.equal(children.trim(), '');
});
