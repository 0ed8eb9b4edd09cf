/** Handshakes come in turn, those who have gone cost none, and strangers hold nobody up for long. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, get } from 'node:https';
import { type AddressInfo, connect as dial, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { Authority } from '../../../src/scheduler/ca/authority.ts';
import { systemClock } from '../../../src/scheduler/clock.ts';
import { HandshakeGate, type HandshakeGateParts } from '../../../src/scheduler/gateway/handshake-gate.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';

/** The type of a handshake record, and no more of it: the server waits for the rest. */
const BEGINNING = Buffer.from([22]);
const DAY_MS = 86_400_000;

class Lab {
  readonly clock: ManualClock;
  readonly gate: HandshakeGate;
  readonly port: number;
  /** Handshakes that were begun. */
  begun = 0;
  readonly #ca: string;
  readonly #sockets: Socket[] = [];

  constructor({ gate, clock }: { gate: HandshakeGate; clock: ManualClock }, port: number, ca: string) {
    this.gate = gate;
    this.clock = clock;
    this.port = port;
    this.#ca = ca;
  }

  /** Connects without a word. */
  async stranger(): Promise<Socket> {
    const socket = dial(this.port, '127.0.0.1').on('error', () => {}); // that it is cut off is seen by its close
    this.#sockets.push(socket);
    await once(socket, 'connect');
    return socket;
  }

  /** Begins a handshake that it does not go on with, and is told of as begun or held. */
  async idler(): Promise<Socket> {
    const before = this.begun + this.gate.held;
    const socket = await this.stranger();
    socket.write(BEGINNING);
    await eventually(() => this.begun + this.gate.held > before);
    return socket;
  }

  agent(): TLSSocket {
    const socket = connect({ port: this.port, host: '127.0.0.1', ca: this.#ca }).on('error', () => {});
    this.#sockets.push(socket);
    return socket;
  }

  async ask(path: string): Promise<string> {
    const asked = get({ port: this.port, host: '127.0.0.1', ca: this.#ca, path, agent: false });
    const [response] = await once(asked, 'response');
    let text = '';
    for await (const chunk of response) text += chunk;
    return text;
  }

  leave(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

async function startLab(t: Test, options: Partial<HandshakeGateParts> = {}): Promise<Lab> {
  const folder = mkdtempSync(join(tmpdir(), 'berth-gate-'));
  const authority = new Authority({ folder, clock: systemClock, lifetimeMs: DAY_MS });
  const { cert, key } = authority.issueForScheduler(['127.0.0.1']);
  const server = createServer({ cert, key }, (request, response) => response.end(request.url));
  const clock = new ManualClock();
  const gate = new HandshakeGate({ clock, ...options });
  server.prependListener('connection', () => lab.begun++); // behind the gate, as the server's own listener is
  gate.guard(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const lab = new Lab({ gate, clock }, (server.address() as AddressInfo).port, authority.pem);
  t.teardown(async () => {
    lab.leave();
    gate.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    rmSync(folder, { recursive: true });
  });
  return lab;
}

t.test('what was read before the turn is not lost to the handshake, nor to what follows', async (t) => {
  const lab = await startLab(t);
  const path = `/${'x'.repeat(6_000)}`;
  t.equal(await lab.ask(path), path);
  const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => lab.ask(`/${n}`)));
  t.same(
    answers,
    Array.from({ length: 20 }, (_, n) => `/${n}`),
  );
  t.equal(lab.begun, 21);
});

t.test('who finds so many handshakes under way is held until one of them is done', async (t) => {
  const lab = await startLab(t, { window: 1 });
  const idler = await lab.idler();
  const asked = lab.ask('/held');
  await eventually(() => lab.gate.held === 1);
  t.equal(lab.begun, 1);
  idler.destroy();
  t.equal(await asked, '/held');
  t.equal(await lab.ask('/next'), '/next', 'a handshake that is done keeps nobody out');
});

t.test('a handshake that is begun and left keeps nobody out for long', async (t) => {
  const lab = await startLab(t, { window: 1 });
  await lab.idler();
  const asked = lab.ask('/held');
  await eventually(() => lab.gate.held === 1);
  lab.clock.advance(249);
  t.equal(lab.gate.held, 1);
  lab.clock.advance(1);
  t.equal(await asked, '/held');
});

t.test('the newest of those who are held goes first', async (t) => {
  const lab = await startLab(t, { window: 1 });
  await lab.idler();
  await lab.idler();
  const asked = lab.ask('/newest');
  await eventually(() => lab.gate.held === 2);
  lab.clock.advance(250);
  t.equal(await asked, '/newest');
});

t.test('who gives up before its turn costs no handshake', async (t) => {
  const lab = await startLab(t, { window: 1 });
  await lab.idler();
  const early = lab.agent();
  await eventually(() => lab.gate.held === 1);
  early.destroy();
  await eventually(() => lab.gate.held === 0);
  lab.clock.advance(250);
  t.equal(await lab.ask('/later'), '/later');
  t.equal(lab.begun, 2);
});

t.test('who says nothing takes no turn', async (t) => {
  const lab = await startLab(t, { window: 1 });
  for (let n = 0; n < 3; n++) await lab.stranger();
  t.equal(await lab.ask('/'), '/');
  t.equal(lab.begun, 1);
});

t.test('nobody begins while enough wait behind the door, and all go on when told', async (t) => {
  let isBacklogged = true;
  const lab = await startLab(t, { isBacklogged: () => isBacklogged });
  const asked = Promise.all([lab.ask('/a'), lab.ask('/b')]);
  await eventually(() => lab.gate.held === 2);
  t.equal(lab.begun, 0);
  isBacklogged = false;
  lab.gate.pump();
  t.same(await asked, ['/a', '/b']);
});

t.test('more than a first message before the turn cuts the connection', async (t) => {
  const lab = await startLab(t, { isBacklogged: () => true });
  const flooder = await lab.idler();
  const closed = once(flooder, 'close');
  flooder.write(Buffer.alloc(17_000));
  await closed;
  t.equal(lab.gate.held, 0);
});

t.test('those who have not had their turn are cut off at the end', async (t) => {
  const lab = await startLab(t, { isBacklogged: () => true });
  const closed = [await lab.idler(), await lab.stranger()].map((socket) => once(socket, 'close'));
  lab.gate.close();
  await Promise.all(closed);
  t.equal(lab.gate.held, 0);
});
