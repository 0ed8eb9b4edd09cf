/**
 * berthd itself, a process on a simulated host, behind two gateways by NATS and mutual TLS: enrolled by a token, commanded
 * through one of them, and through the other when that is killed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { eventually } from '../support/eventually.ts';
import { GatewayProcess, NatsServer, natsMissing } from '../support/nats.ts';
import { aSpec } from '../support/samples.ts';
import { type Answer, type SecureLab, secureLab } from '../support/secure-lab.ts';

const MAIN = join(import.meta.dirname, '../../../src/agent/main.ts');
/** The one image of berthd's simulated host. */
const IMAGE = '/sim/image.qcow2';
const INSTANCES = 12;
/** Long enough for the test's commands, short enough for a renewal within it, ms. */
const LIFETIME_MS = 24_000;

interface Stage {
  lab: SecureLab;
  gateways: [GatewayProcess, GatewayProcess];
  berthd: ChildProcess;
  folder: string;
}

async function startGateways(t: Test, lab: SecureLab, nats: NatsServer): Promise<Stage['gateways']> {
  const start = async (name: string): Promise<GatewayProcess> => {
    const { cert, key } = lab.authority().issueForScheduler(['localhost']);
    const files = { cert: join(lab.stateDir, `${name}.pem`), key: join(lab.stateDir, `${name}.key`) };
    writeFileSync(files.cert, cert);
    writeFileSync(files.key, key, { mode: 0o600 });
    const shown = ['--tls-cert', files.cert, '--tls-key', files.key];
    const gateway = await GatewayProcess.launch(nats, [
      ...shown,
      ...['--client-ca', join(lab.stateDir, 'ca/ca.pem')],
    ]);
    t.teardown(() => gateway.stop());
    return gateway;
  };
  return [await start('one'), await start('two')];
}

function configOf(folder: string, [first, second]: Stage['gateways']): string {
  return [
    `[node]\nstateDir = "${folder}"\nrunDir = "${folder}"`,
    `[socket]\npath = "${folder}/berth.sock"`,
    '[hypervisor]\ndriver = "sim"',
    `[storage]\npath = "${folder}/pool"`,
    '[scheduler]',
    'role = "admin"',
    `url = "wss://localhost:${first.port}"`,
    `alternateUrls = ["wss://localhost:${second.port}"]`,
    `enrolTokenFile = "${folder}/token"`,
  ].join('\n');
}

function startBerthd(t: Test, folder: string): ChildProcess {
  const log = openSync(join(folder, 'log'), 'a');
  const args = ['--conditions=berth-source', MAIN, '--config', join(folder, 'berthd.toml')];
  const berthd = spawn(process.execPath, args, { stdio: ['ignore', log, log] });
  t.teardown(async () => {
    if (berthd.exitCode !== null || berthd.signalCode !== null) return;
    const ended = once(berthd, 'exit');
    berthd.kill('SIGTERM');
    await ended;
  });
  return berthd;
}

async function startStage(t: Test): Promise<Stage> {
  const nats = new NatsServer();
  await nats.start();
  t.teardown(() => nats.stop());
  const bus = { urls: [nats.url], tokenFile: null, name: 'a test' };
  const lab = await secureLab(t, { bus, lifetimeMs: LIFETIME_MS });
  const gateways = await startGateways(t, lab, nats);
  const folder = mkdtempSync(join(tmpdir(), 'gbrt-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'token'), await lab.token(), { mode: 0o600 });
  writeFileSync(join(folder, 'berthd.toml'), configOf(folder, gateways));
  return { lab, gateways, berthd: startBerthd(t, folder), folder };
}

async function nodeOf(lab: SecureLab) {
  return (await lab.ask('GET', '/v1/nodes')).body.nodes[0];
}

async function connected(lab: SecureLab): Promise<void> {
  await eventually(async () => (await nodeOf(lab))?.connected === true);
}

async function ended(lab: SecureLab, { body }: Answer): Promise<string> {
  const { id } = body.operation ?? body.result?.operation ?? {};
  if (id === undefined) throw new Error(`no operation in ${JSON.stringify(body)}`);
  const asked = await eventually(async () => {
    const { status, body: told } = await lab.ask('GET', `/v1/operations/${id}?wait=30`);
    return status === 200 && ['succeeded', 'failed'].includes(told.operation.state) ? told : null;
  });
  return asked.operation.state;
}

/** As a caller does it who is told that the node is away: again, with the same key. */
async function create(lab: SecureLab, name: string): Promise<Answer> {
  const spec = aSpec({ name, vcpus: 1, memoryMib: 64, disks: [{ image: 'debian', sizeGib: 1 }] });
  return eventually(async () => {
    const answer = await lab.ask('POST', '/v1/instances', { spec }, undefined, { 'idempotency-key': name });
    return answer.status === 202 && answer.body.operation !== null ? answer : null;
  });
}

async function serialOf(lab: SecureLab): Promise<string> {
  const { id } = await nodeOf(lab);
  const { body } = await lab.ask('POST', `/v1/nodes/${id}/call`, { method: 'node.identity' });
  return body.result?.serial ?? '';
}

t.test('berthd behind two gateways', { skip: natsMissing }, async (t) => {
  const { lab, gateways } = await startStage(t);
  await connected(lab);
  const { id: nodeId, hostname } = await nodeOf(lab);
  t.ok(await serialOf(lab), 'by its certificate');
  const image = { method: 'image.import', params: { name: 'debian', source: IMAGE } };
  t.equal(await ended(lab, await lab.ask('POST', `/v1/nodes/${hostname}/call`, image)), 'succeeded');

  const names = Array.from({ length: INSTANCES }, (_, at) => `web-${at}`);
  let answered = 0;
  const creating = names.map(async (name) => {
    const answer = await create(lab, name);
    answered++;
    return answer;
  });
  await eventually(() => answered > 0);
  await gateways[0].kill();
  const answers = await Promise.all(creating);
  for (const answer of answers) t.equal(await ended(lab, answer), 'succeeded');
  await connected(lab);

  const repeats = await Promise.all(names.map((name) => create(lab, name)));
  t.same(
    repeats.map(({ body }) => body.operation.id),
    answers.map(({ body }) => body.operation.id),
    'a repeat gets the first answer',
  );
  const { body: polled } = await lab.ask('POST', `/v1/nodes/${nodeId}/poll`, {});
  const had = polled.instances.map(({ name }: { name: string }) => name);
  t.same(had.toSorted(), names.toSorted(), 'each once');
  const events = await allEvents(lab, nodeId);
  t.same(
    events.map(({ seq }) => seq),
    events.map((_, at) => at + 1),
    'each event once, none missed',
  );
  t.equal(events.filter(({ type }) => type === 'instance.created').length, INSTANCES);

  const serial = await serialOf(lab);
  await eventually(async () => !['', serial].includes(await serialOf(lab)));
  t.pass('its certificate is renewed through the gateway that is left');
  await connected(lab);
});

async function allEvents(lab: SecureLab, nodeId: string): Promise<{ seq: number; type: string }[]> {
  return eventually(async () => {
    const { body } = await lab.ask('GET', `/v1/nodes/${nodeId}/events?limit=1000`);
    const created = body.events.filter(({ type }: { type: string }) => type === 'instance.created');
    return created.length >= INSTANCES ? body.events : null;
  });
}
