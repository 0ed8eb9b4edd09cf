/** Simulated agents in a process of their own: so many that nothing of theirs is what a benchmark measures. */
import { FakeAgent } from '../test/scheduler/support/fake-agent.ts';

const [url = '', token = '', count = '0'] = process.argv.slice(2);
const total = { VCPU: 1_000_000, MEMORY_MB: 100_000_000, DISK_GB: 10_000_000 };

const agents = Array.from({ length: Number(count) }, () => new FakeAgent({ url, token, total }));
await Promise.all(agents.map((agent) => agent.connect()));
setInterval(() => {
  for (const agent of agents) agent.heartbeat();
}, 2_000);
process.on('disconnect', () => process.exit());
process.send?.(agents.map(({ nodeId }) => nodeId));
