/** Many who want the last room of a node at once: one gets it, and never two. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { readyAgent, type SimAgent, spec } from '../support/sim-agent.ts';

const ROUNDS = 1_000;
/** Of each kind, at once. */
const RIVALS = 3;
/** CPUs of the node, all of which one of them wants. */
const CPUS = 2;

type Outcome = 'accepted' | 'CAPACITY_EXCEEDED';

/** Calls that come in the same turn, as from several schedulers and from people on the host. */
async function race(sim: SimAgent, round: number): Promise<Outcome[]> {
  const { dispatcher } = sim.agent;
  const names = Array.from({ length: RIVALS }, (_, i) => `r${round}-${i}`);
  const small = { memoryMib: 32, vcpus: CPUS, disks: [{ sizeGib: 1 }], nics: [] };
  const calls = [
    ...names.map((name) => ['instance.create', { id: randomUUID(), spec: spec(name, small) }] as const),
    ...names.map(() => ['reservation.create', { resources: { VCPU: CPUS }, seconds: 3600 }] as const),
  ];
  // Another one is the first each time.
  const turned = [...calls.slice(round % calls.length), ...calls.slice(0, round % calls.length)];
  return Promise.all(
    turned.map(async ([method, params]) => {
      try {
        await dispatcher.call(method, params, { role: 'operate' });
        return 'accepted';
      } catch (error) {
        return (error as { code: Outcome }).code;
      }
    }),
  );
}

/** Makes the room free again, whoever has it. */
async function clear(sim: SimAgent): Promise<void> {
  const { reservations } = await sim.call('reservation.list');
  for (const { id } of reservations) await sim.call('reservation.release', { id });
  for (const { id } of (await sim.call('instance.list')).instances) await sim.run('instance.delete', { id });
}

t.test(`the last room of a node is given to one of ${2 * RIVALS}, ${ROUNDS} times`, async (t) => {
  t.setTimeout(300_000);
  const sim = await readyAgent(t, { cpus: CPUS, config: '[capacity]\nvcpuRatio = 1\nreservedDiskGib = 0' });
  const { store } = sim.agent.services;
  let reserved = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const outcomes = await race(sim, round);
    const accepted = outcomes.filter((outcome) => outcome === 'accepted').length;
    const refused = outcomes.filter((outcome) => outcome === 'CAPACITY_EXCEEDED').length;
    const isRight = accepted === 1 && refused === outcomes.length - 1;
    if (!isRight || store.allocations.used().VCPU !== CPUS) throw new Error(`round ${round}: ${outcomes}`);
    reserved += store.reservations.count();
    await clear(sim);
  }
  t.ok(reserved > 0 && reserved < ROUNDS, `reservations won ${reserved} times, creates the others`);
  t.equal(store.allocations.used().VCPU, 0);
});

t.test('a reservation is taken by one of many creates, and the others get nothing of its room', async (t) => {
  const sim = await readyAgent(t, { cpus: CPUS, config: '[capacity]\nvcpuRatio = 1' });
  const { dispatcher, services } = sim.agent;
  const { reservation } = await sim.call('reservation.create', { resources: { VCPU: CPUS }, seconds: 3600 });
  const create = (name: string) =>
    dispatcher
      .call(
        'instance.create',
        { spec: spec(name, { vcpus: CPUS }), reservation: reservation.id },
        { role: 'operate' },
      )
      .then(
        () => 'accepted',
        (error: { code: string }) => error.code,
      );
  const outcomes = await Promise.all(['a', 'b', 'c', 'd'].map(create));
  t.same(outcomes.toSorted(), ['ILLEGAL_STATE', 'ILLEGAL_STATE', 'ILLEGAL_STATE', 'accepted']);
  t.equal(services.store.allocations.used().VCPU, CPUS);
});
