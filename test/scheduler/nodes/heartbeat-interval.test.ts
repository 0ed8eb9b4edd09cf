/** Many nodes are asked to tell less often, and nobody waits for them less long than they were told. */
import t from 'tap';
import { HeartbeatInterval } from '../../../src/scheduler/nodes/heartbeat-interval.ts';

function intervalOf(leastSeconds: number, nodes: number) {
  const fleet = { nodes };
  return { fleet, interval: new HeartbeatInterval(leastSeconds, () => fleet.nodes) };
}

t.test('few nodes tell as often as the operator wishes, and many together a thousand times a second', (t) => {
  const { fleet, interval } = intervalOf(5, 0);
  for (const [nodes, seconds] of [
    [1, 5],
    [5_000, 5],
    [5_001, 6],
    [10_000, 10],
    [20_000, 20],
  ] as const) {
    fleet.nodes = nodes;
    t.equal(interval.seconds, seconds, `${nodes} nodes`);
    t.equal(interval.ms, seconds * 1000);
  }
  t.equal(interval.leastMs, 5_000);
  t.end();
});

t.test('an operator who wishes for less gets it', (t) => {
  t.equal(intervalOf(60, 10_000).interval.seconds, 60);
  t.end();
});

t.test('it is never longer than the protocol allows', (t) => {
  t.equal(intervalOf(5, 1_000_000).interval.seconds, 300);
  t.end();
});

t.test('it does not shrink with the fleet: who was told the longer one keeps to it', (t) => {
  const { fleet, interval } = intervalOf(5, 10_000);
  t.equal(interval.seconds, 10);
  fleet.nodes = 10;
  t.equal(interval.seconds, 10);
  t.end();
});
