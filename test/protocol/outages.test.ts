/** A real agent and a real scheduler, of which one has lost something: what both know is the same in the end. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { eventually } from '../scheduler/support/eventually.ts';
import { ended, type Host, prepare, startHost } from '../scheduler/support/host.ts';
import { type Lab, startLab } from '../scheduler/support/lab.ts';
import { aSpec } from '../scheduler/support/samples.ts';

const eventsOf = (host: Host) => host.agent.services.store.events;

/** Both have all events of the agent, and the same ones. */
async function inStep(lab: Lab, host: Host): Promise<void> {
  const path = `/v1/nodes/${host.hostname}`;
  await eventually(async () => {
    const { node } = (await lab.get(path)).body;
    return node.connected && node.lastSeq === eventsOf(host).lastSeq();
  });
}

async function toldBy(lab: Lab, host: Host): Promise<{ seq: number; at: string; type: string }[]> {
  return (await lab.get(`/v1/nodes/${host.hostname}/events?after=0&limit=1000`)).body.events;
}

async function make(lab: Lab, name: string): Promise<void> {
  const spec = aSpec({
    name,
    vcpus: 1,
    memoryMib: 256,
    nics: [{ network: 'lan' }],
    disks: [{ image: 'debian' }],
  });
  const { state } = await ended(lab, await lab.post('/v1/instances', { spec }));
  if (state !== 'succeeded') throw new Error(`${name} ${state}`);
}

async function namesAt(lab: Lab): Promise<string[]> {
  const { instances } = (await lab.get('/v1/instances')).body;
  return instances.map(({ name }: { name: string }) => name).sort();
}

/** Events that no guest on the host bears witness to. */
function write(host: Host, count: number): void {
  const { db, events } = host.agent.services.store;
  for (let n = 0; n < count; n++) db.transaction(() => events.append('image.created', null, { n }));
}

/** A folder as it is now, to be put back later. */
function copyOf(t: Test, folder: string): () => void {
  const copy = mkdtempSync(join(tmpdir(), 'berth-copy-'));
  t.teardown(() => rmSync(copy, { recursive: true }));
  cpSync(folder, copy, { recursive: true });
  return () => {
    for (const name of ['scheduler.sqlite', 'berth.sqlite']) {
      for (const end of ['', '-wal', '-shm']) rmSync(join(folder, name + end), { force: true });
    }
    cpSync(copy, folder, { recursive: true });
  };
}

/** Agent and scheduler with an instance each knows, and the scheduler as it was before that. */
async function withOldScheduler(t: Test): Promise<{ lab: Lab; host: Host; putBack: () => void }> {
  const lab = await startLab(t);
  const host = await startHost(t, lab);
  await prepare(t, lab, host);
  await inStep(lab, host);
  let putBack = () => {};
  await host.restart(async () => {
    await lab.scheduler.close();
    putBack = copyOf(t, lab.stateDir);
    await lab.start();
  });
  await inStep(lab, host);
  await make(lab, 'web-1');
  await inStep(lab, host);
  return { lab, host, putBack };
}

t.test('a scheduler that was put back from an older copy learns what has happened since', async (t) => {
  const { lab, host, putBack } = await withOldScheduler(t);
  await host.restart(async () => {
    await lab.scheduler.close();
    putBack();
    await lab.start();
    t.same(await namesAt(lab), []);
  });
  await inStep(lab, host);
  t.same(await namesAt(lab), ['web-1']);
  const told = await toldBy(lab, host);
  t.same(
    told.map(({ seq }) => seq),
    told.map((_, index) => index + 1),
  );
});

t.test('where the events since are gone it learns from a snapshot what there is', async (t) => {
  const { lab, host, putBack } = await withOldScheduler(t);
  await host.restart(async () => {
    await lab.scheduler.close();
    putBack();
  });
  const events = eventsOf(host);
  host.agent.services.store.db.transaction(() => events.outbox.lose(events.lastSeq()));
  await host.restart(() => lab.start());
  await inStep(lab, host);
  await eventually(async () => (await namesAt(lab)).length > 0);
  t.same(await namesAt(lab), ['web-1']);
  await make(lab, 'web-2');
  t.same(await namesAt(lab), ['web-1', 'web-2']);
});

t.test('a node whose disk was put back from an older copy, and went on alone, is understood', async (t) => {
  const lab = await startLab(t);
  const host = await startHost(t, lab);
  await prepare(t, lab, host);
  let putBack = () => {};
  await host.restart(() => {
    putBack = copyOf(t, host.folder);
  });
  await inStep(lab, host);
  write(host, 3);
  await inStep(lab, host);
  await host.restart(async () => {
    putBack();
    await lab.scheduler.close();
  });
  write(host, 10);
  const events = eventsOf(host);
  const before = events.outbox.id;
  await host.restart(() => lab.start());
  await inStep(lab, host);
  t.not(eventsOf(host).outbox.id, before);
  const ours = eventsOf(host).after(0, 10_000);
  t.same(
    (await toldBy(lab, host)).map(({ seq, at }) => [seq, at]),
    ours.map(({ seq, at }) => [seq, at]),
  );
});

t.test('a node whose database is gone begins another numbering, and everything is known again', async (t) => {
  const lab = await startLab(t);
  const host = await startHost(t, lab);
  await prepare(t, lab, host);
  await make(lab, 'web-1');
  await inStep(lab, host);
  const before = eventsOf(host).outbox.id;
  await host.restart(() => {
    for (const end of ['', '-wal', '-shm', '.open'])
      rmSync(join(host.folder, `berth.sqlite${end}`), { force: true });
  });
  await inStep(lab, host);
  t.not(eventsOf(host).outbox.id, before);
  t.same(await namesAt(lab), ['web-1']);
});
