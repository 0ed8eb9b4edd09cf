/**
 * Versions only add: what an older agent or scheduler has been recorded to say is understood, and what is said to it fits
 * the schemas by which it reads. Each revision of the protocol has its recording; see record.ts.
 */
import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { WebSocket } from 'ws';
import { eventually } from '../scheduler/support/eventually.ts';
import { startLab, TOKEN } from '../scheduler/support/lab.ts';
import { linkOf, pass } from '../agent/link/support/linked.ts';
import { simAgent } from '../agent/support/sim-agent.ts';
import { writeFileSync } from 'node:fs';
import { RecordedScheduler } from './support/recorded-scheduler.ts';
import { isAnswer, type Message, Recording } from './support/recording.ts';

const VERSIONS = readdirSync(join(import.meta.dirname, 'recordings'));
const IMAGE = { sha256: 'a'.repeat(64), sizeBytes: 1_000_000, virtualSizeBytes: 1024 ** 3 };

for (const version of VERSIONS) {
  t.test(`an agent of now does what a scheduler of ${version} asks, in words that it knows`, async (t) => {
    const recording = new Recording(version);
    const sim = await simAgent(t);
    sim.world.sources.set('https://images.example/debian.qcow2', IMAGE);
    const scheduler = await RecordedScheduler.listen(recording);
    const tokenFile = join(sim.folder, 'token');
    writeFileSync(tokenFile, TOKEN);
    const link = linkOf(sim, { url: scheduler.url, tokenFile, random: () => 1 });
    t.teardown(async () => {
      link.close();
      await scheduler.close();
    });
    link.start();
    const time = setInterval(() => void pass(sim, 250), 5);
    t.teardown(() => clearInterval(time));
    await eventually(() => scheduler.heartbeats[0]);
    const answers = await scheduler.askAll();
    t.same(
      answers.filter(({ error }) => error !== undefined),
      [],
    );
    await eventually(() => scheduler.heartbeats.some(({ params }) => params?.['inventory']));
    t.same(scheduler.faults, []);
    t.equal(link.health.state, 'ok');
    t.ok(scheduler.hellos.length <= 2, 'one that was refused, and one in its own words');
  });

  t.test(`a scheduler of now understands an agent of ${version}, in words that it knows`, async (t) => {
    const recording = new Recording(version);
    const lab = await startLab(t);
    const faults: string[] = [];
    const acked: number[] = [];
    const requests: Message[] = [];
    let closeCode: number | null = null;
    const socket = new WebSocket(`${lab.url.replace('http', 'ws')}/v1/agent`, 'berth.v1', {
      headers: { authorization: `Bearer ${TOKEN}` },
    });
    t.teardown(() => socket.terminate());
    socket.on('close', (code) => {
      closeCode = code;
    });
    socket.on('message', (data) => {
      const message = JSON.parse(String(data)) as Message;
      const fault = recording.faultForAgent(message);
      if (fault !== null) faults.push(fault);
      if (message.method === 'ack') acked.push(message.params?.['seq'] as number);
      else if (!isAnswer(message)) answer(message);
    });
    const say = (message: object) => socket.send(JSON.stringify({ jsonrpc: '2.0', ...message }));
    const answer = (request: Message) => {
      requests.push(request);
      const recorded = recording.answersTo(request.method ?? '').at(-1);
      say({ id: request.id, result: recorded?.result ?? { operation: null } });
    };
    await new Promise((resolve) => socket.once('open', resolve));
    const said = recording.said('agent').filter((message) => !isAnswer(message));
    const nodeId = said[0]?.params?.['nodeId'] as string;
    for (const message of said) {
      say(message);
      if (message.method === 'hello')
        await eventually(() => requests.some(({ method }) => method === 'instance.list'));
    }
    const last = said.filter(({ method }) => method === 'event').at(-1)?.params?.['seq'] as number;
    await eventually(() => acked.at(-1) === last);
    const { node } = (await lab.get(`/v1/nodes/${nodeId}`)).body;
    t.match(node, { connected: true, lastSeq: last, state: 'ready' });
    t.equal((await lab.post(`/v1/nodes/${nodeId}/poll`)).status, 200);
    await lab.post(`/v1/nodes/${nodeId}/call`, { method: 'instance.list', params: {} });
    const method = 'instance.stop';
    await lab.post(`/v1/nodes/${nodeId}/call`, { method, params: { id: randomUUID() } });
    await eventually(() => requests.some((request) => request.method === method));
    t.same(faults, []);
    t.equal(closeCode, null);
  });
}
