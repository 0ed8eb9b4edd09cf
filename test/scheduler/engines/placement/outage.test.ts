/** A Placement that is away: nothing is placed, nothing is lost, and all goes on when it is back. */
import t from 'tap';
import { eventually } from '../../support/eventually.ts';
import { startLab } from '../../support/lab.ts';
import { PlacementService, placementMissing } from '../../support/placement-service.ts';
import { aSpec } from '../../support/samples.ts';

t.test('while Placement is away', { skip: placementMissing }, async (t) => {
  const service = new PlacementService();
  await service.start();
  t.teardown(() => service.close());
  const { url, tokenFile } = service;
  const lab = await startLab(t, undefined, { engine: { name: 'placement', url, tokenFile } });
  const agent = await lab.node({ hostname: 'alpha' });
  const create = (name: string) => lab.post('/v1/instances', { spec: aSpec({ name }) });
  const { body: made } = await eventually(async () => {
    const answer = await create('before');
    return answer.status === 202 && answer;
  });
  const { id } = made.instance;
  agent.finishCreation(made.operation);
  await eventually(async () => (await lab.get('/v1/instances/before')).body.instance.phase === 'present');

  await service.stop();
  const { status, body } = await create('during');
  t.equal(status, 503);
  t.match(body.error, { code: 'UNAVAILABLE', message: /Placement at http.* does not answer/ });
  t.equal(
    (await lab.post('/v1/instances/before/stop')).status,
    202,
    'what is there is commanded all the same',
  );
  agent.remove(id);
  await eventually(async () => (await lab.get('/v1/instances/before')).status === 404);

  await service.start(new URL(url));
  await eventually(
    async () => (await service.ask('GET', `/allocations/${id}`)).body.allocations[agent.nodeId] === undefined,
  );
  t.equal((await create('after')).status, 202);
});
