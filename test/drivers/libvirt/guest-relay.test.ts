/**
 * Domain events on their way to the agent: order, doubt, and listeners that fail.
 */
import { constants, type LibvirtEvent } from 'node-libvirt';
import t from 'tap';
import { type Clock, systemClock } from '../../../src/drivers/contracts/clock.ts';
import type { GuestEvent } from '../../../src/drivers/contracts/hypervisor.ts';
import { GuestRelay } from '../../../src/drivers/libvirt/guest-relay.ts';
import type { ObservedPower } from '../../../src/drivers/libvirt/power-mapping.ts';

const EVENT = constants.virDomainEventType;
const FAILED = constants.virDomainEventStoppedDetailType.VIR_DOMAIN_EVENT_STOPPED_FAILED;
const noLog = () => undefined;

function lifecycle(uuid: string, event: number, detail = 0, id = -1): LibvirtEvent<'domain', 'lifecycle'> {
  return { family: 'domain', kind: 'lifecycle', domain: { name: uuid, uuid, id }, event, detail };
}

function collect(relay: GuestRelay): GuestEvent[] {
  const told: GuestEvent[] = [];
  relay.listeners.add((event) => void told.push(event));
  return told;
}

t.test('events that say all are told at once', async (t) => {
  const relay = new GuestRelay(systemClock, noLog, () => Promise.reject(new Error('nothing is to be asked')));
  const told = collect(relay);
  relay.lifecycle(lifecycle('a', EVENT.VIR_DOMAIN_EVENT_DEFINED));
  relay.lifecycle(lifecycle('a', EVENT.VIR_DOMAIN_EVENT_STARTED, 0, 1));
  relay.tell({ type: 'agent', id: 'a', connected: true });
  relay.lifecycle(lifecycle('a', EVENT.VIR_DOMAIN_EVENT_UNDEFINED));
  t.match(told, [
    { type: 'power', id: 'a', guest: { power: 'stopped' } },
    { type: 'power', id: 'a', guest: { power: 'running' } },
    { type: 'agent', id: 'a', connected: true },
    { type: 'power', id: 'a', guest: null },
  ]);
});

t.test('while the host is asked about one event, those after it wait', async (t) => {
  const asked = Promise.withResolvers<ObservedPower | null>();
  const relay = new GuestRelay(systemClock, noLog, () => asked.promise);
  const told = collect(relay);
  relay.lifecycle(lifecycle('a', EVENT.VIR_DOMAIN_EVENT_STOPPED, FAILED));
  relay.lifecycle(lifecycle('b', EVENT.VIR_DOMAIN_EVENT_STARTED, 0, 1));
  relay.tell({ type: 'gap' });
  t.same(told, []);
  asked.resolve({ power: 'crashed', reason: 'crashed' });
  await asked.promise;
  await new Promise(setImmediate);
  t.same(
    told.map((event) => (event.type === 'power' ? event.guest?.power : event.type)),
    ['crashed', 'running', 'gap'],
  );
});

t.test('a guest that is gone when asked about is told gone, unless it was only defined', async (t) => {
  const relay = new GuestRelay(systemClock, noLog, async () => null);
  const told = collect(relay);
  relay.lifecycle(lifecycle('a', EVENT.VIR_DOMAIN_EVENT_DEFINED, 1));
  relay.lifecycle(lifecycle('b', EVENT.VIR_DOMAIN_EVENT_STOPPED, FAILED));
  await new Promise(setImmediate);
  t.same(told, [{ type: 'power', id: 'b', guest: null }]);
});

t.test('what does not fit into the queue is a gap', async (t) => {
  const asked = Promise.withResolvers<ObservedPower | null>();
  const relay = new GuestRelay(systemClock, noLog, () => asked.promise);
  const told = collect(relay);
  relay.lifecycle(lifecycle('a', EVENT.VIR_DOMAIN_EVENT_STOPPED, FAILED));
  for (let count = 0; count < 10_001; count++) relay.tell({ type: 'agent', id: 'a', connected: true });
  asked.resolve({ power: 'stopped', reason: 'failed to start' });
  await asked.promise;
  await new Promise(setImmediate);
  t.equal(told.length, 10_002);
  t.same(told.at(-1), { type: 'gap' });
});

t.test('a listener that throws is logged, and the others hear', async (t) => {
  const logged: string[] = [];
  const relay = new GuestRelay(
    systemClock,
    ({ message }) => void logged.push(message),
    async () => null,
  );
  relay.listeners.add(() => {
    throw new Error('a defect of the listener');
  });
  const told = collect(relay);
  relay.tell({ type: 'gap' });
  t.same(told, [{ type: 'gap' }]);
  t.match(logged, [/listener to guest events/]);
});

t.test('resets that follow one another at once are one reboot; a later one is another', async (t) => {
  let nowMs = 0;
  const clock: Clock = { ...systemClock, monotonicMs: () => nowMs };
  const relay = new GuestRelay(clock, noLog, async () => null);
  const told = collect(relay);
  for (nowMs of [0, 150, 2_100]) relay.reset('a');
  relay.reset('b');
  t.same(told, [
    { type: 'rebooted', id: 'a' },
    { type: 'rebooted', id: 'b' },
  ]);
  nowMs = 4_200;
  relay.reset('a');
  t.same(told.at(-1), { type: 'rebooted', id: 'a' });
  t.equal(told.length, 3);
});

t.test('a panic is told as one, and as the crash that it is', async (t) => {
  const relay = new GuestRelay(systemClock, noLog, () => Promise.reject(new Error('nothing is to be asked')));
  const told = collect(relay);
  relay.lifecycle(lifecycle('a', EVENT.VIR_DOMAIN_EVENT_CRASHED, 0, 1));
  t.match(told, [
    { type: 'panicked', id: 'a' },
    { type: 'power', id: 'a', guest: { power: 'crashed', reason: /panicked/ } },
  ]);
});
