/**
 * Trust from end to end, by the programs themselves: berth-scheduler as its own authority, berthd with a simulated host,
 * and `berth`, over TLS on the loopback. What must stay secret is looked for where it could have got to.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { eventually } from '../scheduler/support/eventually.ts';

const SOURCES = join(import.meta.dirname, '../../src');
const PROGRAMS = {
  berth: join(SOURCES, 'cli/main.ts'),
  berthd: join(SOURCES, 'agent/main.ts'),
  scheduler: join(SOURCES, 'scheduler/main.ts'),
};

interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Every command line that a process of this test was ever seen with. */
const commandLines = new Set<string>();

function noteCommandLines(): void {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      commandLines.add(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
      commandLines.add(readFileSync(`/proc/${pid}/environ`, 'utf8'));
    } catch {
      // It has ended meanwhile.
    }
  }
}

function launch(program: keyof typeof PROGRAMS, args: string[]): ChildProcess {
  return spawn(process.execPath, ['--conditions=berth-source', PROGRAMS[program], ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
}

async function run(program: keyof typeof PROGRAMS, args: string[], input = ''): Promise<Ran> {
  const child = launch(program, args);
  child.stdin?.end(input);
  const closed = once(child, 'close');
  const seen = text(child.stderr as NodeJS.ReadableStream);
  const said = text(child.stdout as NodeJS.ReadableStream);
  noteCommandLines();
  const [code] = (await closed) as [number | null];
  return { code, stdout: await said, stderr: await seen };
}

class Daemon {
  readonly child: ChildProcess;
  readonly lines: string[] = [];

  constructor(t: Test, program: keyof typeof PROGRAMS, args: string[]) {
    this.child = launch(program, args);
    for (const stream of [this.child.stdout, this.child.stderr]) {
      createInterface({ input: stream as NodeJS.ReadableStream }).on('line', (line) => this.lines.push(line));
    }
    t.teardown(() => this.stop());
  }

  async says(message: string): Promise<string> {
    return eventually(() => this.lines.find((line) => line.includes(`"msg":"${message}"`)));
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    await gone;
  }
}

interface World {
  folder: string;
  scheduler: Daemon;
  node: Daemon;
  /** Arguments by which the scheduler is asked. */
  access: string[];
  berth(args: string, input?: string): Promise<Ran>;
}

async function world(t: Test): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'gtru-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const state = join(folder, 's');
  const scheduler = new Daemon(t, 'scheduler', [
    ...['--listen', '127.0.0.1:0', '--state-dir', state, '--ca', '--heartbeat-seconds', '1'],
    ...['--tls-name', 'localhost'],
  ]);
  const { address } = JSON.parse(await scheduler.says('listening'));
  const config = join(folder, 'berthd.toml');
  const socket = join(folder, 'n.sock');
  writeFileSync(
    config,
    [
      `[node]\nstateDir = "${folder}/n"\nrunDir = "${folder}/r"`,
      `[socket]\npath = "${socket}"`,
      `[storage]\npath = "${folder}/p"`,
      '[hypervisor]\ndriver = "sim"\n[log]\nlevel = "debug"',
    ].join('\n'),
  );
  const node = new Daemon(t, 'berthd', ['--config', config]);
  await node.says('ready');
  return {
    folder,
    scheduler,
    node,
    access: ['--url', `https://localhost:${address.port}`, '--state-dir', state],
    berth: (args, input) => run('berth', ['--socket', socket, ...args.split(' ')], input),
  };
}

/** Bytes of every file below a folder, but for those in `left`. */
function filesBelow(folder: string, left: readonly string[]): { name: string; bytes: Buffer }[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => !left.includes(name) && statSync(join(folder, name)).isFile())
    .map((name) => ({ name, bytes: readFileSync(join(folder, name)) }));
}

t.test('a node enrols, works, is revoked, and leaves no secret where it does not belong', async (t) => {
  const { folder, scheduler, node, access, berth } = await world(t);
  const tokenFile = join(folder, 'token');
  t.match(await run('scheduler', ['token', 'create', ...access, '--out', tokenFile]), {
    code: 0,
    stdout: '',
    stderr: /good until 20.*for one node, once/,
  });
  t.equal(statSync(tokenFile).mode & 0o777, 0o600);
  const token = readFileSync(tokenFile, 'utf8').trim();

  t.match(await berth('node enrol --token-file -', token), {
    code: 0,
    stdout: /Authority:\s+SHA-256 [0-9a-f]{64}/,
  });
  await eventually(async () => /Scheduler: +ok/.test((await berth('status')).stdout));
  t.match(await berth(`node enrol --token-file ${tokenFile}`), { code: 1, stderr: /used already/ });
  t.match(await berth('status'), { stdout: /Scheduler: +ok/ }, 'which costs the link nothing');
  t.match(await berth('volume create data --size-gib 1'), { code: 0 });

  const listed = await berth('audit list --json');
  const entries = listed.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const user = { via: 'socket', name: 'root', uid: process.getuid?.() };
  t.match(
    entries.filter(({ kind }) => kind === 'call'),
    [
      { method: 'node.enrol', who: user, params: '{"token":"(secret)"}' },
      { method: 'node.enrol', who: user },
      { method: 'volume.create', who: user },
    ],
  );
  t.match(await berth('audit verify'), { code: 0, stdout: /Audit log: +whole/ });

  const [, nodeId] = /ID: +([0-9a-f-]{36})/.exec((await berth('status')).stdout) ?? [];
  t.match(await run('scheduler', ['revoke', nodeId as string, ...access]), {
    code: 0,
    stdout: /Revoked 1 cert/,
  });
  await eventually(async () => /revoked/.test((await berth('status')).stdout));

  await node.stop();
  await scheduler.stop();
  const secret = JSON.parse(Buffer.from(token.slice(7), 'base64url').toString()).secret as string;
  const bearer = readFileSync(join(folder, 's/token'), 'utf8').trim();
  const keyOf = (file: string) => readFileSync(join(folder, file), 'utf8').split('\n')[1] as string;
  const hidden = [token, secret, bearer, keyOf('n/identity/current.pem'), keyOf('s/ca/ca.key')];
  const homes = ['token', 's/token', 'n/identity/current.pem', 's/ca/ca.key'];
  const logs = [...node.lines, ...scheduler.lines].join('\n');
  const seen = [...commandLines].join('\n');
  for (const [at, each] of hidden.entries()) {
    t.notMatch(logs, each, `secret ${at} is in no log`);
    t.notOk(seen.includes(each), `secret ${at} is in no command line`);
    for (const { name, bytes } of filesBelow(folder, homes)) t.notOk(bytes.includes(each), `${at}: ${name}`);
  }
});

t.test('what is wrong is said by exit code and words', async (t) => {
  const { folder, access, berth } = await world(t);
  t.match(await berth('node enrol'), { code: 2, stderr: /--token-file is missing/ });
  t.match(await berth(`node enrol --token-file ${folder}/none`), { code: 2, stderr: /ENOENT/ });
  t.match(await berth('node enrol --token-file -', 'nonsense'), { code: 1, stderr: /no enrolment token/ });
  t.match(await berth('node identity'), { code: 0, stdout: /Not enrolled/ });
  t.match(await berth('audit verify --noted 3:abc'), { code: 2, stderr: /no head of an audit log/ });
  t.match(await run('scheduler', ['revoke', 'nobody', ...access]), {
    code: 1,
    stderr: /No node nobody is known/,
  });
  t.match(await run('scheduler', ['token', 'create', ...access, '--ttl-seconds', '1']), {
    code: 1,
    stderr: /ttlSeconds/,
  });
  t.match(await run('scheduler', ['token', 'create', '--what']), { code: 2, stderr: /unknown option/ });
  t.match(await run('scheduler', ['token', 'create', ...access, '--url', 'https://localhost:1']), {
    code: 1,
    stderr: /Cannot ask the scheduler at https:\/\/localhost:1/,
  });
});
