/** Strangers hold no more connections than there may be, and no handshake begins while too many wait behind the door. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, connect as dial, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import t, { type Test } from 'tap';
import { Authority } from '../../../src/scheduler/ca/authority.ts';
import { systemClock } from '../../../src/scheduler/clock.ts';
import { Entrance } from '../../../src/scheduler/gateway/entrance.ts';
import { eventually } from '../support/eventually.ts';

const DAY_MS = 86_400_000;

/** Behind which as many wait as a test says. */
class Door {
  waiting = 0;
  #tell: () => void = () => undefined;

  onEased(listener: () => void): void {
    this.#tell = listener;
  }

  ease(): void {
    this.waiting = 0;
    this.#tell();
  }
}

async function listening(t: Test, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

function untilHas(server: Server, connections: number): Promise<true> {
  return eventually(
    () =>
      new Promise<boolean>((resolve) => server.getConnections((_, count) => resolve(count === connections))),
  );
}

t.test(
  'one connection more than there may be is cut off, and has its place when another has gone',
  async (t) => {
    const server = createServer();
    new Entrance(server, { clock: systemClock, connections: 2, isSecure: false, door: new Door() });
    const port = await listening(t, server);
    const come = async () => {
      const socket = dial(port, '127.0.0.1');
      t.teardown(() => socket.destroy());
      await once(socket, 'connect');
      return socket;
    };
    const [first] = [await come(), await come()];
    const third = await come();
    await once(third, 'close');
    first.destroy();
    await untilHas(server, 1);
    const fourth = await come();
    fourth.write('GET / HTTP/1.1\r\n');
    await untilHas(server, 2);
    t.notOk(fourth.closed);
    t.ok(
      server.headersTimeout > 0 && server.headersTimeout < 60_000,
      'who says nothing is not heard for ever',
    );
  },
);

t.test('handshakes wait while many wait behind the door', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-entrance-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const authority = new Authority({ folder, clock: systemClock, lifetimeMs: DAY_MS });
  const server = createSecureServer(authority.issueForScheduler(['127.0.0.1']));
  const door = new Door();
  const entrance = new Entrance(server, { clock: systemClock, connections: 9, isSecure: true, door });
  const port = await listening(t, server);
  door.waiting = 1_000;
  let isThrough = false;
  const options = { port, host: '127.0.0.1', ca: authority.pem };
  const agent = connect(options, () => {
    isThrough = true;
  });
  t.teardown(() => agent.destroy());
  await untilHas(server, 1);
  t.notOk(isThrough);
  door.ease();
  await eventually(() => isThrough);
  door.waiting = 1_000;
  const late = connect(options).on('error', () => undefined);
  await untilHas(server, 2);
  entrance.close();
  await new Promise((resolve) => late.once('close', resolve));
  t.ok(agent.writable, 'who is through stays');
});
