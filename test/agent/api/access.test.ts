/** Who may do what: roles on each way in, and the two local sockets as other users of the host see them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { HostExec } from '../../../src/drivers/host/exec.ts';
import { PeerReader } from '../../../src/drivers/host/peers.ts';
import { isChange, METHOD_NAMES, METHODS, type Method } from '../../../src/model/methods.ts';
import { eventually } from '../../scheduler/support/eventually.ts';
import { linked, pass } from '../link/support/linked.ts';
import { readyAgent, type SimAgent, spec } from '../support/sim-agent.ts';

const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;
const needsRoot = { skip: isRoot ? false : 'needs root' };

/** A group that every Debian has, with no members. */
const GROUP = 'games';
const GROUP_ID = 60;

async function withReaders(t: Test): Promise<SimAgent & { readOnly: string }> {
  const config = (folder: string) => `readOnlyPath = "${folder}/ro.sock"\nreadOnlyGroup = "${GROUP}"\n`;
  const sim = await readyAgent(t, { config, peers: new PeerReader(new HostExec()) });
  return Object.assign(sim, { readOnly: join(sim.folder, 'ro.sock') });
}

async function post(socketPath: string, method: string, body: unknown = {}) {
  const sent = request({ socketPath, path: `/v1/${method}`, method: 'POST', agent: false });
  sent.end(JSON.stringify(body));
  const [response] = await once(sent, 'response');
  return { status: response.statusCode as number, body: JSON.parse(await text(response)) };
}

/** What connect(2) says to a user with these groups: empty for a connection. */
async function connectAs(ids: { uid: number; gid: number }, path: string): Promise<string> {
  const program = 'use IO::Socket::UNIX; IO::Socket::UNIX->new(Peer => $ARGV[0]) or print "$!"';
  const child = spawn('perl', ['-e', program, path], { ...ids, stdio: ['ignore', 'pipe', 'inherit'] });
  return text(child.stdout);
}

t.test('each method has the least role that its kind may have', async (t) => {
  for (const name of METHOD_NAMES) {
    const method: Method = METHODS[name];
    if (isChange(method)) t.not(method.role, 'observe', `${name} changes something`);
  }
});

t.test('every method is refused on the link to a role below its own, and to no other', async (t) => {
  for (const role of ['observe', 'operate', 'admin'] as const) {
    const { scheduler, link } = await linked(t, { role });
    const peer = await scheduler.peer(1);
    await peer.welcome();
    for (const name of METHOD_NAMES) {
      const answer = await peer.call(name, { noSuchParam: 1 });
      const needed = { observe: 0, operate: 1, admin: 2 };
      const denied = needed[METHODS[name].role] > needed[role];
      const code = denied ? 'PERMISSION_DENIED' : 'INVALID_ARGUMENT';
      t.match(answer.error?.data, { code }, `${name} by ${role}`);
    }
    link.close();
  }
});

t.test('a scheduler that may observe lists instances, and makes none', async (t) => {
  const { scheduler } = await linked(t, { role: 'observe' });
  const peer = await scheduler.peer(1);
  await peer.welcome();
  t.match(await peer.call('instance.create', { spec: spec() }), {
    error: { data: { code: 'PERMISSION_DENIED', message: /needs the role operate; the caller has observe/ } },
  });
  t.match(await peer.call('instance.list'), { result: { instances: [] } });
});

t.test(
  'the read-only socket answers reads, and takes no change by any of its routes',
  needsRoot,
  async (t) => {
    const sim = await withReaders(t);
    t.match(await post(sim.readOnly, 'instance.list'), { status: 200, body: { instances: [] } });
    for (const name of METHOD_NAMES.filter((each) => METHODS[each].role !== 'observe')) {
      t.match(
        await post(sim.readOnly, name),
        { status: 403, body: { error: { code: 'PERMISSION_DENIED' } } },
        name,
      );
    }
    const upload = request({
      socketPath: sim.readOnly,
      path: '/v1/uploads/3f7d0c52-90c5-4d6a-8a8e-6f3f4c1a2b3c?at=0',
      method: 'PUT',
      headers: { 'content-type': 'application/octet-stream' },
      agent: false,
    });
    upload.end('bytes');
    const [response] = await once(upload, 'response');
    t.equal(response.statusCode, 403);
    response.resume();
  },
);

t.test('without a group for it there is no read-only socket', async (t) => {
  const sim = await readyAgent(t, { config: (folder) => `readOnlyPath = "${folder}/ro.sock"\n` });
  t.notOk(existsSync(join(sim.folder, 'ro.sock')));
});

t.test(
  'a user outside the group reaches neither socket; one in it the read-only one alone',
  needsRoot,
  async (t) => {
    const sim = await withReaders(t);
    chmodSync(sim.folder, 0o755);
    t.match(statSync(sim.readOnly), { uid: 0, gid: GROUP_ID });
    t.equal(statSync(sim.readOnly).mode & 0o777, 0o660);
    const outsider = { uid: NOBODY, gid: NOBODY };
    t.match(await connectAs(outsider, sim.socketPath), /Permission denied/);
    t.match(await connectAs(outsider, sim.readOnly), /Permission denied/);
    const reader = { uid: NOBODY, gid: GROUP_ID };
    t.match(await connectAs(reader, sim.socketPath), /Permission denied/);
    t.equal(await connectAs(reader, sim.readOnly), '');
  },
);

t.test('the audit log has the local user by the word of the kernel', needsRoot, async (t) => {
  const sim = await withReaders(t);
  const { audit } = sim.agent.services.store;
  const { seq } = audit.head();
  t.match(await post(sim.socketPath, 'volume.create', { name: 'data', sizeGib: 1 }), { status: 200 });
  t.match(audit.after(seq, 1), [
    { method: 'volume.create', who: { via: 'socket', name: 'root', uid: 0, pid: process.pid } },
  ]);
  await post(sim.readOnly, 'volume.delete', { id: 'data' });
  const refusal = await eventually(async () => {
    await pass(sim, 1_000);
    return audit.after(seq, 100).find(({ kind }) => kind === 'refusal');
  });
  t.match(refusal, { method: 'volume.delete', who: { via: 'read-only-socket', name: 'root', uid: 0 } });
});

t.test('a host that cannot tell who calls is no reason to refuse an operator', async (t) => {
  const peers = {
    credentialsOf: async () => {
      throw new Error('no more processes');
    },
  };
  const sim = await readyAgent(t, { peers });
  const { audit } = sim.agent.services.store;
  const { seq } = audit.head();
  t.match(await post(sim.socketPath, 'volume.create', { name: 'data', sizeGib: 1 }), { status: 200 });
  t.match(audit.after(seq, 1), [{ who: { via: 'socket', name: null, uid: null } }]);
  t.match(
    sim.logged.find(({ message }) => /which user/.test(message)),
    { level: 'warn' },
  );
});

t.test('connections that say nothing give way to one that does', async (t) => {
  const sim = await readyAgent(t);
  const silent = Array.from({ length: 400 }, () => connect(sim.socketPath));
  for (const socket of silent) socket.on('error', () => undefined);
  t.teardown(() => {
    for (const socket of silent) socket.destroy();
  });
  await Promise.all(silent.map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')])));
  t.match(await post(sim.socketPath, 'node.status'), { status: 200 });
});
