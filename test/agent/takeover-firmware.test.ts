/** Firmware variables of UEFI guests whose node is gone: what the node that takes them over has of them. */
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { copyNvram } from '../../src/agent/instances/nvram-copy.ts';
import { newFile } from '../../src/drivers/sim/files.ts';
import { AgentError } from '../../src/model/errors.ts';
import { askedOf, DISKS, losePower, pair, volumesOf } from './support/shared-pool.ts';
import { type SimAgent, spec } from './support/sim-agent.ts';

const UEFI = { firmware: 'uefi' } as const;

/** What the firmware of a guest has in it. */
function variables(node: SimAgent, text?: string, name = 'web'): string | undefined {
  const kept = node.world.kept.get(`/sim/nvram/berth-${name}_VARS.fd`);
  if (kept !== undefined && text !== undefined) kept.text = text;
  return kept?.text;
}

function copiesOf(node: SimAgent) {
  return node.files.filter(({ path }) => path.endsWith('.nvram'));
}

async function untilCopied(node: SimAgent, text: string): Promise<void> {
  await node.until(() => copiesOf(node).some((file) => file.text === text));
}

async function lostFirmware(node: SimAgent) {
  const { events } = await node.call('event.list', { after: 0 });
  return events.filter(({ type }) => type === 'instance.nvram-lost').map(({ data }) => data);
}

async function withGuest(node: SimAgent, more: object = {}): Promise<void> {
  t.match(await node.run('instance.create', { spec: spec('web', { disks: DISKS, ...UEFI, ...more }) }), {
    state: 'succeeded',
  });
}

t.test('a guest goes on elsewhere with the firmware variables that it had, and back again', async (t) => {
  const [old, other] = await pair(t);
  await withGuest(old);
  await untilCopied(old, variables(old) ?? '');
  variables(old, 'boots disk A');
  await untilCopied(old, 'boots disk A');
  variables(old, 'boots disk B');
  await untilCopied(old, 'boots disk B');
  t.equal(copiesOf(old).length, 1, 'one copy, whatever was written');
  const asked = await askedOf(old);
  await losePower(old);
  t.match(await other.run('instance.takeover', asked), { state: 'succeeded' });
  t.equal(variables(other), 'boots disk B');
  t.same(await lostFirmware(other), []);

  variables(other, 'boots disk C');
  await untilCopied(other, 'boots disk C');
  await old.restart();
  await old.until(() => old.agent.services.store.instances.get('web').disowned !== null);
  await old.run('instance.delete', { id: 'web' });
  const back = { ...(await askedOf(other, { fence: 2 })), id: asked.id };
  await losePower(other);
  t.match(await old.run('instance.takeover', back), { state: 'succeeded' });
  t.equal(variables(old), 'boots disk C');
  t.match(await old.run('instance.delete', { id: 'web' }), { state: 'succeeded' });
  t.same(copiesOf(old), []);
  t.same((await old.call('node.leaks')).leaks, []);
  t.same([...old.world.mishaps, ...other.world.mishaps], []);
});

t.test(
  'a guest without a copy, or with one of another firmware, starts anew, and that is told',
  async (t) => {
    const [old, other] = await pair(t);
    const refused = new AgentError('UNSUPPORTED', 'the firmware of this host keeps 540672 bytes');
    for (const [isCopied, error] of [
      [false, null],
      [true, { code: 'UNSUPPORTED' }],
    ] as const) {
      await withGuest(old);
      if (isCopied) await untilCopied(old, variables(old) ?? '');
      else for (const { path } of copiesOf(old)) old.world.files.remove(path);
      const asked = await askedOf(old);
      if (isCopied) other.world.faults.fail('hypervisor.writeNvram', refused);
      t.match(await other.run('instance.takeover', asked), { state: 'succeeded' });
      t.match((await lostFirmware(other)).at(-1), { node: asked.from.node, error });
      t.match(other.guests[0], { power: 'running' });
      await old.until(() => old.agent.services.store.instances.get('web').disowned !== null);
      for (const node of [old, other]) await node.run('instance.delete', { id: 'web' });
      t.same(copiesOf(other), []);
    }
  },
);

t.test('a takeover that fails leaves the copy with the old node', async (t) => {
  const [old, other] = await pair(t);
  await withGuest(old);
  await untilCopied(old, variables(old) ?? '');
  const before = volumesOf(old).sort();
  other.world.faults.fail('hypervisor.writeNvram', new AgentError('HOST_CONFLICT', 'a folder is there'));
  t.match(await other.run('instance.takeover', await askedOf(old)), {
    state: 'failed',
    error: { code: 'HOST_CONFLICT' },
  });
  t.same(volumesOf(old).sort(), before);
  t.equal(variables(other), undefined);
});

t.test('a copy goes with its instance, though the volume that it booted from stays', async (t) => {
  const [old] = await pair(t);
  await old.run('volume.create', { name: 'system', sizeGib: 4, image: 'debian', pool: 'common' });
  await withGuest(old, { disks: [{ volume: 'system' }] });
  await untilCopied(old, variables(old) ?? '');
  t.match(await old.run('instance.delete', { id: 'web' }), { state: 'succeeded' });
  t.same(copiesOf(old), []);
  t.equal(volumesOf(old).length, 1);
});

t.test('one that is being written while its instance is deleted goes, too', async (t) => {
  const [old] = await pair(t);
  await withGuest(old);
  await untilCopied(old, variables(old) ?? '');
  const [copy] = copiesOf(old);
  const { services } = old.agent;
  const hypervisor = Object.assign(Object.create(services.hypervisor) as typeof services.hypervisor, {
    copyNvram: async () => {
      await old.run('instance.delete', { id: 'web' });
      t.same(copiesOf(old), []);
      old.world.files.put(
        newFile({ ...copy, kind: 'volume', sizeBytes: 1 } as Parameters<typeof newFile>[0]),
      );
      return true;
    },
  });
  await copyNvram({ ...services, hypervisor }, services.store.instances.get('web').id, {});
  t.same(copiesOf(old), []);
  t.same((await old.call('node.leaks')).leaks, []);
});

t.test('nothing is copied of a BIOS guest, nor into a pool that no other node sees', async (t) => {
  const [old] = await pair(t);
  await old.run('instance.create', { spec: spec('bios', { disks: DISKS }) });
  await old.run('instance.create', { spec: spec('alone', { ...UEFI }) });
  await withGuest(old);
  await untilCopied(old, variables(old) ?? '');
  t.equal(copiesOf(old).length, 1);
});

t.test('variables that can not be copied keep no other instance from being looked at', async (t) => {
  const [old, other] = await pair(t);
  await withGuest(old, { name: `a-${randomUUID().slice(0, 8)}` });
  await withGuest(old);
  const strange = new AgentError('HOST_CONFLICT', 'it is no file of firmware variables');
  old.world.faults.fail('hypervisor.copyNvram', strange);
  await other.run('instance.takeover', await askedOf(old));
  await old.until(() => old.agent.services.store.instances.get('web').disowned !== null);
  t.ok(old.logged.some(({ level, message }) => level === 'warn' && /looked at later/.test(message)));
});
