/**
 * The contract of engines: what each of them promises, as tests that all of them pass.
 */
import { randomUUID } from 'node:crypto';
import type { Test } from 'tap';
import type { AgentError } from '../../../src/model/errors.ts';
import type { Amounts, Stock } from '../../../src/scheduler/engines/amounts.ts';
import type { Engine, EngineRequest, NodeReport } from '../../../src/scheduler/engines/engine.ts';

/** Resource amounts and a trait that no real Placement knows of before. */
export const DEVICE = 'CUSTOM_BERTH_TEST_DEVICE';
export const TRAIT = 'CUSTOM_BERTH_TEST_TRAIT';

export function stock(total: number, change: Partial<Stock> = {}): Stock {
  return { total, reserved: 0, allocationRatio: 1, used: 0, ...change };
}

export function aReport(change: Partial<NodeReport> = {}): NodeReport {
  const nodeId = change.nodeId ?? randomUUID();
  return {
    nodeId,
    hostname: `host-${nodeId}`,
    stock: { VCPU: stock(4), MEMORY_MB: stock(4096), DISK_GB: stock(100) },
    traits: [],
    isOpen: true,
    counted: [],
    accepted: [],
    ...change,
  };
}

export function asked(change: Partial<EngineRequest> = {}): EngineRequest {
  return { amounts: NEEDS, required: [], forbidden: [], nodeId: null, ...change };
}

export const NEEDS: Amounts = { VCPU: 2, MEMORY_MB: 1024, DISK_GB: 10 };

async function codeOf(promise: Promise<unknown>): Promise<string | null> {
  try {
    await promise;
    return null;
  } catch (error) {
    return (error as AgentError).code;
  }
}

type Make = (t: Test) => Promise<Engine>;

async function roomOn(engine: Engine, nodeId: string, amounts: Amounts = { VCPU: 1 }) {
  return (await engine.candidates(asked({ amounts, nodeId })))[0]?.room;
}

/** @param make An engine that may have other nodes than those of the test. */
export function engineContract(t: Test, make: Make): void {
  rooms(t, make);
  claims(t, make);
  moves(t, make);
  traitsAndDevices(t, make);
  states(t, make);
  races(t, make);
}

function rooms(t: Test, make: Make): void {
  t.test('a node that has room is a candidate, with what is left there', async (t) => {
    const engine = await make(t);
    const node = aReport({ stock: { VCPU: stock(4), MEMORY_MB: stock(4096), DISK_GB: stock(100) } });
    await engine.report(node);
    const found = (await engine.candidates(asked())).find(({ nodeId }) => nodeId === node.nodeId);
    t.match(found?.room, { VCPU: 4, MEMORY_MB: 4096, DISK_GB: 100 });
    t.same(await engine.whyNot(asked(), [node.nodeId]), []);
  });

  t.test(
    'of what a node has, what is reserved and used there is not to be had, and the ratio counts',
    async (t) => {
      const engine = await make(t);
      const node = aReport({
        stock: {
          VCPU: stock(4, { allocationRatio: 4, used: 6 }),
          MEMORY_MB: stock(4096, { reserved: 1024, used: 512 }),
        },
      });
      await engine.report(node);
      t.match(await roomOn(engine, node.nodeId, { VCPU: 1, MEMORY_MB: 1 }), { VCPU: 10, MEMORY_MB: 2560 });
      t.equal((await engine.candidates(asked({ amounts: { VCPU: 11 }, nodeId: node.nodeId }))).length, 0);
      const [why] = await engine.whyNot(asked({ amounts: { VCPU: 11 } }), [node.nodeId]);
      t.match(why, { nodeId: node.nodeId, code: 'CAPACITY_EXCEEDED', reason: 'VCPU: 11 needed, 10 left' });
    },
  );

  t.test('what the node itself has counted is taken from the room once', async (t) => {
    const engine = await make(t);
    const node = aReport();
    await engine.report(node);
    const claim = { consumer: randomUUID(), nodeId: node.nodeId, amounts: { VCPU: 2 } };
    await engine.claim(claim);
    await engine.report({ ...node, stock: { VCPU: stock(4, { used: 2 }) }, counted: [claim] });
    t.match(await roomOn(engine, node.nodeId), { VCPU: 2 });
    const withOther = { VCPU: stock(4, { used: 3 }) };
    await engine.report({ ...node, stock: withOther, counted: [claim] });
    t.match(await roomOn(engine, node.nodeId), { VCPU: 1 }, 'something of its own besides');
    await engine.release(claim.consumer);
    await engine.report({ ...node, stock: { VCPU: stock(4, { used: 1 }) } });
    t.match(await roomOn(engine, node.nodeId), { VCPU: 3 });
  });
}

function claims(t: Test, make: Make): void {
  t.test(
    'a claim takes room until it is released; what does not fit any more is refused whole',
    async (t) => {
      const engine = await make(t);
      const node = aReport();
      await engine.report(node);
      const [first, second, third] = [randomUUID(), randomUUID(), randomUUID()];
      await engine.claim({ consumer: first, nodeId: node.nodeId, amounts: NEEDS });
      t.match(await roomOn(engine, node.nodeId, NEEDS), { VCPU: 2, MEMORY_MB: 3072, DISK_GB: 90 });
      await engine.claim({ consumer: second, nodeId: node.nodeId, amounts: NEEDS });
      const last = { consumer: third, nodeId: node.nodeId, amounts: NEEDS };
      t.equal(await codeOf(engine.claim(last)), 'CAPACITY_EXCEEDED');
      t.same((await engine.consumersOf(node.nodeId)).sort(), [first, second].sort());
      t.equal((await engine.candidates(asked({ nodeId: node.nodeId }))).length, 0);
      await engine.release(first);
      await engine.claim(last);
      t.same((await engine.consumersOf(node.nodeId)).sort(), [second, third].sort());
    },
  );

  t.test('a claim that is repeated is one, and a release that is repeated is none', async (t) => {
    const engine = await make(t);
    const node = aReport();
    await engine.report(node);
    const claim = { consumer: randomUUID(), nodeId: node.nodeId, amounts: { VCPU: 3 } };
    await engine.claim(claim);
    await engine.claim(claim);
    t.match(await roomOn(engine, node.nodeId), { VCPU: 1 });
    await engine.release(claim.consumer);
    await engine.release(claim.consumer);
    await engine.release(randomUUID());
    t.match(await roomOn(engine, node.nodeId), { VCPU: 4 });
  });
}

function moves(t: Test, make: Make): void {
  t.test(
    'a consumer that claims on another node gives up the first, or keeps it where it is refused',
    async (t) => {
      const engine = await make(t);
      const [one, other] = [aReport(), aReport()];
      await engine.report(one);
      await engine.report(other);
      const consumer = randomUUID();
      await engine.claim({ consumer, nodeId: one.nodeId, amounts: NEEDS });
      const tooMuch = { consumer, nodeId: other.nodeId, amounts: { VCPU: 5 } };
      t.equal(await codeOf(engine.claim(tooMuch)), 'CAPACITY_EXCEEDED');
      t.same(await engine.consumersOf(one.nodeId), [consumer]);
      await engine.claim({ consumer, nodeId: other.nodeId, amounts: NEEDS });
      t.same(await engine.consumersOf(one.nodeId), []);
      t.match(await roomOn(engine, one.nodeId), { VCPU: 4 });
      t.match(await roomOn(engine, other.nodeId), { VCPU: 2 });
    },
  );

  t.test('a node that shrinks below what is claimed keeps the claims and takes nothing more', async (t) => {
    const engine = await make(t);
    const node = aReport({ stock: { VCPU: stock(4), [DEVICE]: stock(2) } });
    await engine.report(node);
    const { nodeId } = node;
    const consumer = randomUUID();
    await engine.claim({ consumer, nodeId, amounts: { VCPU: 4, [DEVICE]: 1 } });
    await engine.report({ ...node, stock: { VCPU: stock(2) } });
    t.same(await engine.consumersOf(nodeId), [consumer]);
    t.equal(
      await codeOf(engine.claim({ consumer: randomUUID(), nodeId, amounts: { VCPU: 1 } })),
      'CAPACITY_EXCEEDED',
    );
    t.equal(
      (await engine.candidates(asked({ amounts: { [DEVICE]: 1 }, nodeId }))).length,
      0,
      'nor of a class that is gone',
    );
    await engine.release(consumer);
    await engine.report({ ...node, stock: { VCPU: stock(2) } });
    t.match(await roomOn(engine, nodeId), { VCPU: 2 });
  });
}

function traitsAndDevices(t: Test, make: Make): void {
  t.test('only nodes with all required traits and none of the forbidden ones are candidates', async (t) => {
    const engine = await make(t);
    const node = aReport({ traits: [TRAIT, 'HW_CPU_X86_AVX2'] });
    await engine.report(node);
    const { nodeId } = node;
    const count = async (change: Partial<EngineRequest>) =>
      (await engine.candidates(asked({ nodeId, ...change }))).length;
    t.equal(await count({ required: [TRAIT, 'HW_CPU_X86_AVX2'], forbidden: ['CUSTOM_BERTH_OTHER'] }), 1);
    t.equal(await count({ required: ['CUSTOM_BERTH_OTHER'] }), 0);
    t.equal(await count({ forbidden: [TRAIT] }), 0);
    const [why] = await engine.whyNot(asked({ required: ['CUSTOM_BERTH_OTHER'], forbidden: [TRAIT] }), [
      nodeId,
    ]);
    t.match(why, { code: 'UNSUPPORTED', reason: `it lacks CUSTOM_BERTH_OTHER; it has ${TRAIT}` });
    await engine.report({ ...node, traits: [] });
    t.equal(await count({ required: [TRAIT] }), 0, 'a trait that is gone is gone');
  });

  t.test('devices are classes like all others; a class that no node has is no error', async (t) => {
    const engine = await make(t);
    const node = aReport({ stock: { VCPU: stock(4), [DEVICE]: stock(1) } });
    await engine.report(node);
    const { nodeId } = node;
    const amounts = { VCPU: 1, [DEVICE]: 1 };
    await engine.claim({ consumer: randomUUID(), nodeId, amounts });
    t.equal((await engine.candidates(asked({ amounts, nodeId }))).length, 0);
    const unknown = asked({ amounts: { CUSTOM_BERTH_TEST_NOBODY_HAS_IT: 1 } });
    t.same(await engine.candidates(unknown), []);
    t.match(await engine.whyNot(unknown, [nodeId]), [{ code: 'CAPACITY_EXCEEDED' }]);
  });
}

function states(t: Test, make: Make): void {
  t.test('a node that is closed is no candidate, keeps its claims, and opens again', async (t) => {
    const engine = await make(t);
    const node = aReport();
    await engine.report(node);
    const consumer = randomUUID();
    await engine.claim({ consumer, nodeId: node.nodeId, amounts: { VCPU: 1 } });
    await engine.report({ ...node, isOpen: false });
    t.equal((await engine.candidates(asked({ nodeId: node.nodeId }))).length, 0);
    t.match(await engine.whyNot(asked(), [node.nodeId]), [{ code: 'UNAVAILABLE' }]);
    t.same(await engine.consumersOf(node.nodeId), [consumer]);
    await engine.report(node);
    t.match(await roomOn(engine, node.nodeId), { VCPU: 3 });
  });

  t.test('a node that was never reported is no candidate, and nothing is claimed on it', async (t) => {
    const engine = await make(t);
    const nodeId = randomUUID();
    t.same(await engine.candidates(asked({ nodeId })), []);
    t.match(await engine.whyNot(asked(), [nodeId]), [{ nodeId, code: 'UNAVAILABLE' }]);
    t.equal(await codeOf(engine.claim({ consumer: randomUUID(), nodeId, amounts: NEEDS })), 'NOT_FOUND');
    t.same(await engine.consumersOf(nodeId), []);
  });
}

function races(t: Test, make: Make): void {
  t.test('of many claims at once exactly as many succeed as there is room for', async (t) => {
    const engine = await make(t);
    const node = aReport({ stock: { VCPU: stock(5) } });
    await engine.report(node);
    const claims = Array.from({ length: 12 }, () =>
      codeOf(engine.claim({ consumer: randomUUID(), nodeId: node.nodeId, amounts: { VCPU: 2 } })),
    );
    const outcomes = await Promise.all(claims);
    t.equal(outcomes.filter((code) => code === null).length, 2);
    t.equal(outcomes.filter((code) => code === 'CAPACITY_EXCEEDED').length, 10);
    t.equal((await engine.consumersOf(node.nodeId)).length, 2);
  });
}
