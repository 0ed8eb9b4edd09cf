/** Several addresses of one scheduler. */
import type { Test } from 'tap';
import t from 'tap';
import { eventually } from '../../scheduler/support/eventually.ts';
import { FakeScheduler } from './support/fake-scheduler.ts';
import { healthIs, type Linked, linked, pass, TOKEN } from './support/linked.ts';

async function another(t: Test, port = 0): Promise<FakeScheduler> {
  const scheduler = await FakeScheduler.listen({ token: TOKEN, port });
  t.teardown(() => scheduler.close());
  return scheduler;
}

/** Lets time pass until the scheduler has its nth hello. */
async function peerOf({ sim }: Linked, scheduler: FakeScheduler, n: number) {
  return eventually(async () => {
    await pass(sim, 1_000);
    return scheduler.peers[n - 1]?.hello ? scheduler.peers[n - 1] : null;
  });
}

t.test(
  'where the first address does not answer the next one is dialled, and then the one after that',
  async (t) => {
    const third = await another(t);
    const gone = 'ws://127.0.0.1:1';
    const parts = await linked(t, { url: gone, alternateUrls: [gone, third.url] });
    await (await peerOf(parts, third, 1)).welcome();
    t.equal(parts.link.health.state, 'ok');
  },
);

t.test('a link that ends goes on at the address where it was', async (t) => {
  const second = await another(t);
  const parts = await linked(t, { url: 'ws://127.0.0.1:1', alternateUrls: [second.url] });
  const peer = await peerOf(parts, second, 1);
  await peer.welcome();
  peer.cut();
  await healthIs(parts.link, 'unavailable');
  await pass(parts.sim, 1_000);
  await second.peer(2);
});

t.test('a link goes back to the first address when that answers, and not before', async (t) => {
  const first = await FakeScheduler.listen({ token: TOKEN });
  const { port, url } = first;
  await first.close();
  const second = await another(t);
  const parts = await linked(t, { url, alternateUrls: [second.url], random: () => 0 });
  const there = await peerOf(parts, second, 1);
  await there.welcome({ heartbeatSeconds: 300 });
  await pass(parts.sim, 301_000);
  t.equal(there.closeCode, null, 'the first does not answer');
  t.equal(parts.link.health.state, 'ok');
  const home = await another(t, port);
  await pass(parts.sim, 301_000);
  const back = await home.peer(1);
  await back.welcome();
  t.equal(await eventually(() => there.closeCode), 1001);
  t.equal(parts.link.health.state, 'ok');
  t.equal(second.peers.length, 1);
});

t.test('a first address that takes the connection and refuses the hello does no harm for long', async (t) => {
  const first = await FakeScheduler.listen({ token: TOKEN });
  const { port, url } = first;
  await first.close();
  const second = await another(t);
  const parts = await linked(t, { url, alternateUrls: [second.url], random: () => 0 });
  await (await peerOf(parts, second, 1)).welcome({ heartbeatSeconds: 300 });
  const home = await another(t, port);
  await pass(parts.sim, 301_000);
  const back = await home.peer(1);
  await eventually(() => back.hello);
  back.close();
  const again = await peerOf(parts, second, 2);
  await again.welcome();
  t.equal(parts.link.health.state, 'ok');
});
