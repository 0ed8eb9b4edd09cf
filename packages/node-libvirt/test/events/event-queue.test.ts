import t from 'tap';
import { LibvirtTransportError } from '../../src/errors.ts';
import { EARLY_MAX } from '../../src/events/early-messages.ts';
import { EventQueue, type QueuedEvent } from '../../src/events/event-queue.ts';
import { Events } from '../../src/events/events.ts';
import { subscriptionOf } from '../../src/events/subscription.ts';
import { kindOf } from '../support/outcome.ts';
import { domainNamed, lifecycleFrame, setup } from './event-daemon.ts';

type Item = QueuedEvent<'domain', 'lifecycle'>;

/** An item in short: the domain's name, 'gap', or the number of dropped events. */
function short(item: Item | undefined): string | number {
  switch (item?.type) {
    case 'event':
      return item.event.domain.name;
    case 'overflow':
      return item.dropped;
    case 'gap':
      return 'gap';
    case undefined:
      return 'end';
    default:
      return item satisfies never;
  }
}

t.test('events, gap and overflow come in their places', async (t) => {
  const { daemon, connection } = await setup(t);
  const queue = await connection.events('domain', 'lifecycle', { bufferMax: 2 });
  const next = async () => short((await queue.next()).value);
  const first = next();
  for (const name of ['a', 'b', 'c', 'd', 'e']) daemon.lifecycle(name);
  await connection.getLibVersion({ role: 'control' });
  t.equal(await first, 'a');
  const gap = new Promise((resolve) => connection.onGap(resolve));
  daemon.fake.dropAll();
  await gap;
  daemon.lifecycle('f');
  await connection.getLibVersion({ role: 'control' });
  t.same([await next(), await next(), await next(), await next()], ['b', 'c', 3, 'gap']);
  daemon.lifecycle('g');
  t.equal(await next(), 'g');
});

t.test('only what the filter lets through is in it', async (t) => {
  const { daemon, connection } = await setup(t);
  await using queue = await connection.events('domain', 'lifecycle', { domain: domainNamed('b') });
  daemon.lifecycle('a');
  daemon.lifecycle('b');
  t.equal(short((await queue.next()).value), 'b');
});

t.test('breaking out of the loop takes the registration back', async (t) => {
  const { daemon, connection } = await setup(t);
  const queue = await connection.events('domain', 'lifecycle');
  daemon.lifecycle('a');
  for await (const item of queue) {
    t.equal(short(item), 'a');
    daemon.lifecycle('b');
    break;
  }
  t.same(daemon.registered, []);
  t.equal((await queue.next()).done, true);
});

t.test('disposal takes the registration back, and ends readers that wait', async (t) => {
  const { daemon, connection } = await setup(t);
  const queue = await connection.events('domain', 'lifecycle');
  const waiting = [queue.next(), queue.next()];
  await queue[Symbol.asyncDispose]();
  t.same(await Promise.all(waiting), [
    { done: true, value: undefined },
    { done: true, value: undefined },
  ]);
  t.same(daemon.registered, []);
});

t.test('readers get events in the order in which they asked', async (t) => {
  const { daemon, connection } = await setup(t);
  await using queue = await connection.events('domain', 'lifecycle');
  const waiting = Promise.all([queue.next(), queue.next(), queue.next()]);
  for (const name of ['a', 'b', 'c']) daemon.lifecycle(name);
  t.same(
    (await waiting).map((result) => short(result.value)),
    ['a', 'b', 'c'],
  );
});

t.test('a signal ends it after what has come before', async (t) => {
  const { daemon, connection } = await setup(t);
  const controller = new AbortController();
  const queue = await connection.events('domain', 'lifecycle', { signal: controller.signal });
  daemon.lifecycle('a');
  await connection.getLibVersion({ role: 'control' });
  controller.abort();
  const seen: unknown[] = [];
  for await (const item of queue) seen.push(short(item));
  t.same(seen, ['a']);
  t.same(daemon.registered, []);
  t.equal(await kindOf(connection.events('domain', 'lifecycle', { signal: controller.signal })), 'aborted');
});

t.test('close() of the connection ends all of them', async (t) => {
  const { connection } = await setup(t);
  const queues = await Promise.all(
    Array.from({ length: 20 }, () => connection.events('domain', 'lifecycle')),
  );
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => warnings.push(warning);
  process.on('warning', onWarning);
  const ends = Promise.all(queues.map((queue) => queue.next()));
  await connection.close();
  t.ok((await ends).every((result) => result.done));
  await new Promise(setImmediate);
  process.off('warning', onWarning);
  t.same(warnings, []);
});

t.test('a lost connection does not end it', async (t) => {
  const { daemon, connection } = await setup(t);
  await using queue = await connection.events('domain', 'lifecycle');
  daemon.fake.dropAll();
  t.equal(short((await queue.next()).value), 'gap');
  daemon.lifecycle('a');
  t.equal(short((await queue.next()).value), 'a');
});

t.test('an event that overtakes the reply is in it', async (t) => {
  const { daemon, connection } = await setup(t);
  daemon.delay = ({ peer }, answer) => {
    peer.socket.write(lifecycleFrame(1, 'early'));
    answer();
  };
  const queue = await connection.events('domain', 'lifecycle');
  t.equal(short((await queue.next()).value), 'early');
});

t.test('a gap before the reply is in it, after the events that were kept', async (t) => {
  const { daemon, connection } = await setup(t);
  daemon.delay = ({ peer }, answer) => {
    for (let count = 0; count <= EARLY_MAX; count++) peer.socket.write(lifecycleFrame(1, 'early'));
    answer();
  };
  const queue = await connection.events('domain', 'lifecycle');
  for (let count = 0; count < EARLY_MAX; count++) await queue.next();
  t.match((await queue.next()).value, { type: 'gap', gap: { cause: { kind: 'limit' } } });
});

t.test('one that could not be opened leaves no listener behind', async (t) => {
  const refusal = new LibvirtTransportError('limit', 'too many calls');
  const events = new Events(() => Promise.reject(refusal), 1_000);
  const subscription = subscriptionOf('domain', 'lifecycle', {});
  await t.rejects(EventQueue.open(events, subscription, {}, new AbortController().signal), refusal);
  t.same(events.load, { listeners: 0, gapListeners: 0, registrations: 0 });
});
