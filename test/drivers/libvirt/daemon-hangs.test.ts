/**
 * libvirtd hangs, with its socket still open.
 */
import t from 'tap';
import { Lab, takeTime, until, whyNotHere } from './lab.ts';
import { PrivateDaemon } from './private-daemon.ts';

/** Deadline of calls to a daemon that hangs, milliseconds. */
const HANGING_TIMEOUT_MS = 500;

takeTime(t);
const skip = await whyNotHere();

t.test('a daemon that hangs makes its own calls UNAVAILABLE, and nothing else', { skip }, async (t) => {
  const daemon = await PrivateDaemon.open(t);
  const lab = await Lab.open(t, daemon.socketPath);
  const hypervisor = lab.driver(t);
  const elsewhere = (await Lab.open(t)).driver(t);
  const definition = await lab.emptyGuest();
  await hypervisor.define(definition);
  await hypervisor.start(definition.id);
  await elsewhere.observe();
  daemon.freeze();
  const limits = { timeoutMs: HANGING_TIMEOUT_MS };
  await t.rejects(hypervisor.observe(limits), { code: 'UNAVAILABLE' });
  await t.rejects(hypervisor.observeGuest(definition.id, limits), { code: 'UNAVAILABLE' });
  await t.resolves(elsewhere.observe(), 'another daemon answers');
  daemon.thaw();
  await until('the daemon to answer', () => hypervisor.observe(limits).then(Array.isArray, () => false));
  t.match(await hypervisor.observeGuest(definition.id), { power: 'running', ours: true });
});

t.test('a daemon that hangs for long is noticed without a call, and found again', { skip }, async (t) => {
  const daemon = await PrivateDaemon.open(t);
  const hypervisor = (await Lab.open(t, daemon.socketPath)).driver(t);
  await hypervisor.observe();
  daemon.freeze();
  await until('the silence to be noticed', () => !hypervisor.health().connected);
  t.not(hypervisor.health().reason, '');
  await t.rejects(hypervisor.observe(), { code: 'UNAVAILABLE' }, 'at once');
  daemon.thaw();
  await until('the connection', () => hypervisor.health().connected);
  t.same(await hypervisor.observe(), []);
});
