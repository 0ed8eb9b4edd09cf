/** The placement engine on a real Placement, by the contract of engines and by what it alone promises. */
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { PlacementEngine } from '../../../../src/scheduler/engines/placement/engine.ts';
import { PlacementService, placementMissing } from '../../support/placement-service.ts';
import { aReport, asked, DEVICE, engineContract, stock, TRAIT } from '../contract.ts';

if (placementMissing) {
  t.test('the engine on a real Placement', { skip: placementMissing }, async () => undefined);
} else {
  const service = new PlacementService();
  await service.start();
  t.teardown(() => service.close());
  const engine = (schedulerId = 'a-scheduler') => new PlacementEngine({ ...service, schedulerId });

  t.test('placement', async (t) => engineContract(t, async () => engine()));

  t.test('an allocation of another is neither shown nor released, and none is made over it', async (t) => {
    const [ours, theirs] = [engine('one'), engine('other')];
    const node = aReport();
    await ours.report(node);
    const claim = { consumer: randomUUID(), nodeId: node.nodeId, amounts: { VCPU: 1 } };
    await theirs.claim(claim);
    t.same(await ours.consumersOf(node.nodeId), []);
    await t.rejects(ours.release(claim.consumer), { code: 'HOST_CONFLICT' });
    await t.rejects(ours.claim(claim), { code: 'HOST_CONFLICT' });
    t.same(await theirs.consumersOf(node.nodeId), [claim.consumer]);
  });

  t.test('a node that is as it was is told to Placement once; a new engine finds it there', async (t) => {
    const node = aReport({ traits: [TRAIT] });
    const generation = async () =>
      (await service.ask('GET', `/resource_providers/${node.nodeId}`)).body.generation;
    const first = engine();
    await first.report(node);
    const before = await generation();
    await first.report(node);
    await engine().report(node);
    t.equal(await generation(), before);
    await first.report({ ...node, isOpen: false });
    t.ok((await generation()) > before);
    const { traits } = (await service.ask('GET', `/resource_providers/${node.nodeId}/traits`)).body;
    t.same(traits.sort(), ['COMPUTE_STATUS_DISABLED', TRAIT]);
  });

  t.test(
    'a report that comes after others have changed the provider reads its generation and holds',
    async (t) => {
      const [one, other] = [engine(), engine()];
      const node = aReport();
      await one.report(node);
      await other.report({ ...node, stock: { VCPU: stock(8) } });
      await one.report({ ...node, stock: { VCPU: stock(6) } });
      t.match(await one.candidates(asked({ amounts: { VCPU: 1 }, nodeId: node.nodeId })), [
        { room: { VCPU: 6 } },
      ]);
    },
  );

  t.test('a standard trait that this Placement has not heard of is kept under a name of ours', async (t) => {
    const node = aReport({ traits: ['HW_FROM_THE_FUTURE'] });
    const asks = (required: string[]) =>
      engine().candidates(asked({ amounts: { VCPU: 1 }, required, nodeId: node.nodeId }));
    await engine().report(node);
    t.equal((await asks(['HW_FROM_THE_FUTURE'])).length, 1);
    t.equal((await asks(['HW_FROM_ANOTHER_FUTURE'])).length, 0);
    const { traits } = (await service.ask('GET', `/resource_providers/${node.nodeId}/traits`)).body;
    t.same(traits, ['CUSTOM_BERTH_HW_FROM_THE_FUTURE']);
  });

  t.test('asking for what nobody has leaves nothing behind in Placement', async (t) => {
    await engine().candidates(
      asked({ amounts: { CUSTOM_BERTH_GHOST: 1 }, required: ['CUSTOM_BERTH_GHOST'] }),
    );
    t.equal((await service.ask('GET', '/resource_classes/CUSTOM_BERTH_GHOST')).status, 404);
    t.equal((await service.ask('GET', '/traits/CUSTOM_BERTH_GHOST')).status, 404);
  });

  t.test('an instance is one consumer, of our project and this scheduler, by its id', async (t) => {
    const node = aReport({ stock: { VCPU: stock(2), [DEVICE]: stock(1) } });
    const one = engine('the-scheduler');
    await one.report(node);
    const consumer = randomUUID();
    await one.claim({ consumer, nodeId: node.nodeId, amounts: { VCPU: 1, [DEVICE]: 1 } });
    const { body } = await service.ask('GET', `/allocations/${consumer}`);
    t.match(body, {
      project_id: 'berth',
      user_id: 'the-scheduler',
      consumer_type: 'INSTANCE',
      allocations: { [node.nodeId]: { resources: { VCPU: 1, [DEVICE]: 1 } } },
    });
  });

  t.test('a token that is not taken is told, and one that was renewed in its file is used', async (t) => {
    const tokenFile = join(service.folder, 'expired');
    const one = new PlacementEngine({ url: service.url, tokenFile, schedulerId: 'x' });
    await t.rejects(one.candidates(asked()), { code: 'UNAVAILABLE', message: /token/ });
    writeFileSync(tokenFile, '');
    await t.rejects(one.candidates(asked()), { code: 'PERMISSION_DENIED' });
    writeFileSync(tokenFile, 'admin');
    await one.candidates(asked());
  });

  t.test(
    'a Placement that is gone is UNAVAILABLE, and the same engine goes on when it is back',
    async (t) => {
      const node = aReport();
      const one = engine();
      await one.report(node);
      const nowhere = new PlacementEngine({ ...service, url: 'http://127.0.0.1:9', schedulerId: 'x' });
      await t.rejects(nowhere.candidates(asked()), { code: 'UNAVAILABLE' });
      await t.rejects(nowhere.claim({ consumer: randomUUID(), nodeId: node.nodeId, amounts: { VCPU: 1 } }), {
        code: 'UNAVAILABLE',
      });
      t.equal((await one.candidates(asked({ nodeId: node.nodeId }))).length, 1);
    },
  );
}
