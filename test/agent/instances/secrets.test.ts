/** Marked secrets go into every place that takes one, and are then looked for wherever anything is told. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { AgentError } from '../../../src/model/errors.ts';
import { METHODS, type MethodName } from '../../../src/model/methods.ts';
import { readyAgent, SimAgent, spec } from '../support/sim-agent.ts';

const USER = 'SECRET-OF-USER-DATA';
const VENDOR = 'SECRET-OF-VENDOR-DATA';
const NODE = 'SECRET-OF-THE-NODE';
const ANY = /SECRET-OF|U0VDUkVULU9G/; // and in base64
const userData = `#cloud-config\nchpasswd:\n  list: "root:${USER}"\n`;
const vendorData = `#!/bin/sh\necho ${VENDOR}\n`;

/** What each read method wants; those that are missing here want nothing. */
const PARAMS: Partial<Record<MethodName, object>> = {
  'instance.show': { id: 'web' },
  'instance.console': { id: 'web' },
  'volume.show': { id: 'web-disk0' },
  'image.show': { id: 'debian' },
  'network.show': { id: 'default' },
};

/** Every answer of every read method, as far as the method can answer here. */
async function everyAnswer(sim: SimAgent): Promise<string> {
  const reads = Object.entries(METHODS).filter(([, { kind }]) => kind === 'read');
  const answers: unknown[] = [];
  for (const [name] of reads) {
    const params = PARAMS[name as MethodName] ?? {};
    answers.push(
      await sim.call(name as MethodName, params).catch((error) => AgentError.from(error).toBody()),
    );
  }
  const { operations } = await sim.call('operation.list', {});
  for (const { id } of operations) answers.push(await sim.call('operation.get', { id }));
  return JSON.stringify(answers);
}

function logOf(sim: SimAgent): string {
  return JSON.stringify(sim.logged, (_key, value: unknown) =>
    value instanceof Error ? { message: value.message, stack: value.stack, cause: value.cause } : value,
  );
}

/** The bytes of the database and of its log. */
function databaseOf(sim: SimAgent): string {
  return readdirSync(sim.folder)
    .filter((name) => name.startsWith('berth.sqlite'))
    .map((name) => readFileSync(join(sim.folder, name), 'latin1'))
    .join('\n');
}

function definitionsOf(sim: SimAgent): string {
  return JSON.stringify(sim.guests.map(({ definition }) => definition));
}

async function nothingTold(t: Test, sim: SimAgent, when: string): Promise<void> {
  t.notMatch(await everyAnswer(sim), ANY, `${when}: no answer`);
  t.notMatch(logOf(sim), ANY, `${when}: no line of the log`);
  t.notMatch(definitionsOf(sim), ANY, `${when}: no definition of a guest`);
}

t.test('secrets go into the seed, and are told by nothing, whatever is done with the instance', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('web', { userData, vendorData }) });
  const seed = sim.files.find(({ kind }) => kind === 'seed')?.text as string;
  t.match(seed, USER);
  t.match(seed, VENDOR);
  t.match((await sim.call('instance.show', { id: 'web' })).instance, {
    userDataBytes: userData.length,
    vendorDataBytes: vendorData.length,
  });
  await nothingTold(t, sim, 'after the create');
  await sim.run('instance.stop', { id: 'web', mode: 'forced' });
  await sim.run('instance.start', { id: 'web' });
  await sim.run('instance.configure', { id: 'web', policies: { onBoot: 'never' } });
  await nothingTold(t, sim, 'after more');
  await sim.run('instance.delete', { id: 'web' });
  await nothingTold(t, sim, 'after the delete');
});

t.test('once the seed is written the database holds none of it', async (t) => {
  const sim = await readyAgent(t);
  await sim.run('instance.create', { spec: spec('web', { userData, vendorData }) });
  sim.agent.services.store.db.checkpoint();
  t.notMatch(databaseOf(sim), ANY);
});

t.test(
  'the journal forgets it with the end of the step that writes the seed, and a crash later goes on',
  async (t) => {
    const sim = await readyAgent(t);
    sim.world.faults.delay('storage.makeSeed', 10_000);
    sim.world.faults.delay('hypervisor.start', 60_000);
    const { operation } = await sim.call('instance.create', { spec: spec('web', { userData, vendorData }) });
    const { store } = sim.agent.services;
    const planned = () => JSON.stringify(store.operations.get(operation.id).plan);
    t.match(planned(), USER, 'until then it is needed');
    await sim.until(() => sim.agent.operations.get(operation.id).progress.step === 'start');
    t.notMatch(planned(), ANY);
    await nothingTold(t, sim, 'while it starts');
    await sim.crash();
    sim.world.faults.clear();
    await sim.restart();
    t.equal((await sim.ended(operation.id)).state, 'succeeded');
    t.match(sim.files.find(({ kind }) => kind === 'seed')?.text, USER);
  },
);

t.test('a create that fails before or after its seed tells nothing of it, and keeps nothing', async (t) => {
  for (const call of ['storage.makeSeed', 'hypervisor.start'] as const) {
    const sim = await readyAgent(t);
    sim.world.faults.fail(call, new AgentError('HOST_CONFLICT', 'in the way'));
    const made = await sim.run('instance.create', { spec: spec('web', { userData, vendorData }) });
    t.equal(made.state, 'failed');
    await nothingTold(t, sim, call);
    sim.agent.services.store.db.checkpoint();
    t.notMatch(databaseOf(sim), ANY);
  }
});

t.test('what is refused is not repeated, neither to the caller nor to the log', async (t) => {
  const sim = await readyAgent(t);
  const bad: object[] = [
    { userData: `#cloud-config\n\t${USER}: 1\n` },
    { userData: `${USER}\n` },
    { vendorData: `${VENDOR}\n` },
    { userData: `${USER}!`, userDataEncoding: 'base64' },
    { userData: USER.repeat(10_000) },
    { userData: { password: USER } },
    { userData: [USER] },
    { userDataEncoding: { a: USER } },
    { disks: { a: USER } },
  ];
  for (const change of bad) {
    const error = await sim.call('instance.create', { spec: spec('web', change) }).then(
      () => null,
      (thrown) => AgentError.from(thrown),
    );
    t.match(error, { code: 'INVALID_ARGUMENT' });
    t.notMatch(JSON.stringify(error?.toBody()), ANY, Object.keys(change).join());
  }
  await nothingTold(t, sim, 'after refusals');
  t.same(sim.guests, []);
});

t.test("the node's vendor-data goes to those whose spec brings none, and is told by nothing", async (t) => {
  const file = nodeFile(t, `#cloud-config\nwrite_files: ["${NODE}"]\n`);
  const sim = await readyAgent(t, { config: `[seeds]\nvendorDataFile = "${file}"` });
  const seeds = async (change: object) => {
    await sim.run('instance.create', { spec: spec('web', change) });
    const seed = JSON.parse(sim.files.find(({ kind }) => kind === 'seed')?.text as string);
    await nothingTold(t, sim, 'of the node');
    await sim.run('instance.delete', { id: 'web' });
    return seed.vendorData as string | null;
  };
  t.match(await seeds({}), NODE);
  t.match(await seeds({ vendorData }), VENDOR);
  t.equal(await seeds({ vendorData: '' }), null, 'an empty one is none');
});

t.test('a node whose vendor-data no guest could read does not start, and says why', async (t) => {
  const folder = newFolder(t);
  const start = (file: string) => () =>
    new SimAgent({ folder, config: `[seeds]\nvendorDataFile = "${file}"` });
  const unread = { code: 'INVALID_ARGUMENT', message: /Cannot read the vendor-data/ };
  t.throws(start('/nowhere/vendor'), unread);
  t.throws(start('/proc'), unread);
  const broken = nodeFile(t, `#cloud-config\n\t${NODE}: 1\n`);
  t.throws(start(broken), { code: 'INVALID_ARGUMENT', message: /line 2, column 1: a tab/ });
  t.throws(start(nodeFile(t, Buffer.from([0xff]))), unread);
  t.throws(start(nodeFile(t, `#!/bin/sh\n${'#'.repeat(70_000)}`)), { message: /may have 65536/ });
});

function nodeFile(t: Test, contents: string | Buffer): string {
  const file = join(newFolder(t), 'vendor-data');
  writeFileSync(file, contents);
  return file;
}

function newFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'berth-vendor-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}
