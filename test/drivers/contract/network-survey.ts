/**
 * The part of the network contract that is about leftovers: what a survey tells, and what may be taken away alone.
 */
import type { Test } from 'tap';
import type { NetworkDriver, NetworkPlan, NetworkThing } from '../../../src/drivers/contracts/network.ts';
import { type NetworkRigMaker, networkPlan, portPlan, rejectsWith } from './network-rig.ts';

/** What a survey tells of one network, in order; other tests may run networks of their own on the same machine. */
async function thingsOf(driver: NetworkDriver, { id, bridge }: NetworkPlan): Promise<NetworkThing[]> {
  const things = (await driver.survey()).filter(({ networkId, name }) => networkId === id || name === bridge);
  return things.toSorted((a, b) => (a.kind < b.kind ? -1 : 1));
}

export function surveyTests(t: Test, makeRig: NetworkRigMaker): void {
  t.test(
    'a survey tells every part of a network by the name that the plan has, and none where there is none',
    async (t) => {
      const rig = await makeRig(t);
      const plan = networkPlan(rig.driver, 23);
      const port = portPlan(plan, 1);
      t.same(await thingsOf(rig.driver, plan), []);
      await rig.driver.ensureNetwork(plan);
      await rig.driver.ensurePort(plan, port);
      const things = await thingsOf(rig.reopen(), plan);
      t.same(
        things.map(({ kind, name }) => `${kind} ${name}`),
        [...rig.driver.names(plan.id), rig.driver.reservationName(plan.id, port.id)]
          .map(({ kind, name }) => `${kind} ${name}`)
          .toSorted(),
      );
      for (const thing of things) t.match(thing, { networkId: plan.id, marked: true }, thing.kind);
      await rig.driver.removeNetwork(plan);
      t.same(await thingsOf(rig.driver, plan), []);
    },
  );

  t.test(
    'the parts of a network can be taken away one by one, also again, until nothing is left',
    async (t) => {
      const rig = await makeRig(t);
      const plan = networkPlan(rig.driver, 24);
      await rig.driver.ensureNetwork(plan);
      await rig.driver.ensurePort(plan, portPlan(plan, 1));
      const order = ['dhcp-reservation', 'dhcp-process', 'bridge', 'nft-table', 'dhcp-folder'];
      for (const kind of order) {
        const thing = (await thingsOf(rig.driver, plan)).find((one) => one.kind === kind);
        t.ok(thing, `${kind} is told`);
        if (thing === undefined) continue;
        await rig.driver.removeThing({ ...thing, networkId: plan.id });
        await rig.driver.removeThing({ ...thing, networkId: plan.id });
        t.notOk(
          (await thingsOf(rig.driver, plan)).some((one) => one.kind === kind),
          `${kind} is gone`,
        );
      }
      t.same(await rig.leftovers(), []);
    },
  );

  t.test(
    'a bridge whose maker was interrupted is told, and removed by the network that it was for',
    async (t) => {
      const rig = await makeRig(t);
      const plan = networkPlan(rig.driver, 25);
      const other = networkPlan(rig.driver, 26);
      await rig.beginBridge(plan);
      t.match(await thingsOf(rig.driver, plan), [
        { kind: 'bridge', name: plan.bridge, networkId: null, marked: true },
      ]);
      const thing = { kind: 'bridge', name: plan.bridge } as const;
      await rejectsWith(t, 'HOST_CONFLICT', rig.driver.removeThing({ ...thing, networkId: other.id }));
      await rejectsWith(t, 'HOST_CONFLICT', rig.driver.removeThing({ ...thing, networkId: null }));
      t.ok(await rig.hasBridge(plan.bridge));
      await rig.driver.removeThing({ ...thing, networkId: plan.id });
      t.same(await rig.leftovers(), []);
    },
  );
}

export function partRemovalTests(t: Test, makeRig: NetworkRigMaker): void {
  t.test('a bridge of our name without our mark is told as such, and never removed', async (t) => {
    const rig = await makeRig(t);
    const plan = networkPlan(rig.driver, 27);
    await rig.addForeignBridge(plan.bridge);
    await rig.addForeignBridge('br-other');
    t.match(await thingsOf(rig.driver, plan), [{ kind: 'bridge', name: plan.bridge, marked: false }]);
    t.notOk((await rig.driver.survey()).some(({ name }) => name === 'br-other'));
    const thing = { kind: 'bridge', name: plan.bridge, networkId: plan.id } as const;
    await rejectsWith(t, 'HOST_CONFLICT', rig.driver.removeThing(thing));
    t.ok(await rig.hasBridge(plan.bridge));
  });

  t.test(
    'a bridge with a device plugged in, and a tap of a name that is not ours, are not removed',
    async (t) => {
      const rig = await makeRig(t);
      const plan = networkPlan(rig.driver, 28);
      await rig.driver.ensureNetwork(plan);
      const tap = rig.driver.tapName(portPlan(plan, 1).id);
      await rig.plugDevice(plan.bridge, tap);
      const bridge = { kind: 'bridge', name: plan.bridge, networkId: plan.id } as const;
      t.match((await thingsOf(rig.driver, plan)).find(({ kind }) => kind === 'bridge')?.inUse, tap);
      const error = await rejectsWith(t, 'ILLEGAL_STATE', rig.driver.removeThing(bridge));
      t.match(error?.message, tap);
      await rig.driver.removeThing({ kind: 'tap', name: tap, networkId: null });
      t.notOk((await rig.driver.survey()).some(({ name }) => name === tap));
      t.equal(await rig.driver.look(plan), 'present');
      await rig.driver.removeNetwork(plan);
    },
  );

  t.test('a tap that nobody has open is told wherever it is, and removed', async (t) => {
    const rig = await makeRig(t);
    const tap = rig.driver.tapName(portPlan(networkPlan(rig.driver, 29), 1).id);
    await rig.addTap(tap);
    t.match(
      (await rig.driver.survey()).filter(({ kind }) => kind === 'tap'),
      [{ name: tap, networkId: null, marked: true, inUse: null }],
    );
    await rig.driver.removeThing({ kind: 'tap', name: tap, networkId: null });
    await rig.driver.removeThing({ kind: 'tap', name: tap, networkId: null });
    t.same(await rig.leftovers(), []);
  });
}

export function refusedRemovalTests(t: Test, makeRig: NetworkRigMaker): void {
  t.test('a thing is removed only as that of the network whose name it has', async (t) => {
    const rig = await makeRig(t);
    const [plan, other] = [networkPlan(rig.driver, 30), networkPlan(rig.driver, 31)];
    await rig.driver.ensureNetwork(plan);
    await rig.driver.ensurePort(plan, portPlan(plan, 1));
    for (const { kind, name } of await thingsOf(rig.driver, plan)) {
      await rejectsWith(
        t,
        'HOST_CONFLICT',
        rig.driver.removeThing({ kind, name, networkId: other.id }),
        kind,
      );
    }
    for (const [kind, name] of [
      ['dhcp-folder', '/etc'],
      ['dhcp-process', '/etc/dnsmasq.conf'],
      ['nft-table', 'filter'],
      ['tap', 'eth0'],
      ['tap', plan.bridge],
    ] as const) {
      await rejectsWith(t, 'HOST_CONFLICT', rig.driver.removeThing({ kind, name, networkId: plan.id }), name);
    }
    const { name } = rig.driver.reservationName(plan.id, portPlan(plan, 1).id);
    const wayOut = `${name}/../../../../out`;
    await rejectsWith(
      t,
      'HOST_CONFLICT',
      rig.driver.removeThing({ kind: 'dhcp-reservation', name: wayOut, networkId: plan.id }),
    );
    t.equal(await rig.driver.look(plan), 'present');
    t.equal(await rig.driver.lookPort(plan, portPlan(plan, 1)), true);
  });
}
