/** `berth` by a user who may only look: the read-only socket beside the full one. */
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { readOnlyPathOf } from '../../src/cli/client.ts';
import { readyAgent } from '../agent/support/sim-agent.ts';
import { berth, type Ran } from './support/run.ts';

const NOBODY = 65_534;
/** A group that every Debian has, with no members. */
const GROUP = { name: 'games', id: 60 };
const needsRoot = { skip: process.getuid?.() === 0 ? false : 'needs root' };

interface Host {
  socketPath: string;
  /** Runs a command as a user of this group. */
  as(gid: number, argv: string): Promise<Ran>;
}

async function host(t: Test): Promise<Host> {
  let readOnlyPath = '';
  const sim = await readyAgent(t, {
    config: (folder) => {
      readOnlyPath = join(folder, 'berth-ro.sock');
      return `readOnlyPath = "${readOnlyPath}"\nreadOnlyGroup = "${GROUP.name}"\n`;
    },
  });
  chmodSync(sim.folder, 0o755);
  t.equal(readOnlyPathOf(sim.socketPath), readOnlyPath);
  return {
    socketPath: sim.socketPath,
    as: async (gid, argv) => {
      process.setegid?.(gid);
      process.seteuid?.(NOBODY);
      try {
        return await berth(argv.split(' '), { socketPath: sim.socketPath });
      } finally {
        process.seteuid?.(0);
        process.setegid?.(0);
      }
    },
  };
}

t.test('the read-only socket lies beside the full one', async (t) => {
  t.equal(readOnlyPathOf('/run/berth/berth.sock'), '/run/berth/berth-ro.sock');
  t.equal(readOnlyPathOf('/run/a.b/socket'), '/run/a.b/socket-ro');
});

t.test('one of its group reads, follows and is told why nothing else goes', needsRoot, async (t) => {
  const { as, socketPath } = await host(t);
  t.match(await as(GROUP.id, 'image list'), { code: 0, stdout: /debian/ });
  t.match(await as(GROUP.id, 'events'), { code: 0, stdout: /operation\.changed/ });
  const refused = await as(GROUP.id, 'image delete debian --yes');
  t.match(refused, {
    code: 1,
    stdout: '',
    stderr: /this user may only look: image\.delete needs the role operate; the caller has observe/,
  });
  t.match(refused.stderr, `hint: Use sudo, or join the group that \`ls -l ${socketPath}\` shows`);
  t.match(await as(GROUP.id, 'image list'), { stdout: /debian/ }, 'it is still there');
});

t.test('one of neither group is told about the full socket', needsRoot, async (t) => {
  const { as, socketPath } = await host(t);
  t.match(await as(NOBODY, 'image list'), {
    code: 3,
    stderr: new RegExp(`Cannot reach the agent at ${socketPath}: permission denied`),
  });
});
