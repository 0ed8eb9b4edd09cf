/** What is judged of a guest: pure, so every case is a value. */
import t from 'tap';
import { judge, restorable, type Situation } from '../../../src/agent/reconcile/drift.ts';
import type { Found } from '../../../src/agent/reconcile/found.ts';
import type {
  GuestDefinition,
  GuestDevices,
  KeptDefinition,
  ObservedGuest,
} from '../../../src/drivers/contracts/hypervisor.ts';
import { DETAIL_LIMIT, DRIFTS_LIMIT, objectionTo } from '../../../src/model/drift.ts';
import { DESIRES, LIFECYCLES, POWER_STATES } from '../../../src/model/instance.ts';
import fc from '../../property.ts';

const WRITER = 'libvirt 9.0.0';
const DIGEST = 'as-defined';

const wanted: GuestDefinition = {
  id: '00000000-0000-4000-8000-000000000001',
  name: 'berth-web',
  vcpus: 2,
  memoryMib: 512,
  firmware: 'bios',
  disks: [
    { serial: 'root', path: '/pool/root.qcow2', format: 'qcow2', readOnly: false, backing: null },
    { serial: 'seed', path: '/pool/seed.iso', format: 'raw', readOnly: true, backing: null },
  ],
  nics: [{ macAddress: '52:54:00:00:00:01', bridge: 'bb-1', tapName: 'bt-1' }],
  consoleLogPath: null,
  metadata: '{}',
};

const devices: GuestDevices = {
  disks: wanted.disks.map(({ serial, path, format, readOnly }) => ({ serial, path, format, readOnly })),
  nics: wanted.nics,
};

function kept(change: Partial<KeptDefinition['shape']> = {}, digest?: string): KeptDefinition {
  const { name, vcpus, memoryMib, firmware } = wanted;
  const shape = { name, vcpus, memoryMib, firmware, ...devices, ...change };
  return { shape, writer: WRITER, digest: digest ?? (Object.keys(change).length === 0 ? DIGEST : 'changed') };
}

function guest(change: Partial<ObservedGuest> = {}): ObservedGuest {
  const { id, name, vcpus, memoryMib, metadata } = wanted;
  return {
    id,
    name,
    ours: true,
    power: 'stopped',
    reason: '',
    vcpus,
    memoryMib,
    metadata,
    generationId: id,
    definition: kept(),
    live: null,
    ...change,
  };
}

const runningGuest = (change: Partial<ObservedGuest> = {}) =>
  guest({ power: 'running', live: devices, ...change });

function situation(change: Partial<Situation> = {}): Situation {
  const baseline = { digest: DIGEST, writer: WRITER };
  return {
    lifecycle: 'ready',
    power: 'running',
    isBusy: false,
    guest: runningGuest(),
    baseline,
    desired: 'running',
    isExcused: () => false,
    ...change,
  };
}

function driftsOf(change: Partial<Situation>): Pick<Found, 'kind' | 'remedy'>[] {
  const judgement = judge(situation(change), () => wanted);
  if (judgement.verdict === 'undecided') throw new Error('undecided');
  return judgement.drifts.map(({ kind, remedy }) => ({ kind, remedy }));
}

function isRestorable(drifts: Pick<Found, 'kind' | 'remedy'>[]): boolean {
  const { definition, power } = restorable(drifts);
  return definition.length + power.length > 0;
}

const disk = (path: string) => ({ serial: null, path, format: 'raw', readOnly: false });
const nic = { macAddress: '52:54:00:00:00:99', bridge: 'virbr0', tapName: null };

t.test(
  'a guest that is as it was defined has not drifted, and its wanted definition is not even made',
  async (t) => {
    const never = () => {
      throw new Error('made in vain');
    };
    t.same(judge(situation(), never), { verdict: 'judged', drifts: [], baseline: situation().baseline });
    t.match(judge(situation({ guest: guest(), power: 'stopped', desired: 'stopped' }), never), {
      drifts: [],
    });
  },
);

t.test('each change of the definition has its name, and is restored by a define', async (t) => {
  const cases: [Partial<KeptDefinition['shape']>, string][] = [
    [{ vcpus: 3 }, 'size-changed'],
    [{ memoryMib: 1024 }, 'size-changed'],
    [{ firmware: 'uefi' }, 'size-changed'],
    [{ name: 'theirs' }, 'renamed'],
    [{ disks: [...devices.disks, disk('/x.raw')] }, 'disk-attached'],
    [{ disks: devices.disks.slice(0, 1) }, 'disk-detached'],
    [{ nics: [...devices.nics, nic] }, 'nic-attached'],
    [{ nics: [] }, 'nic-detached'],
    [{ nics: [{ ...nic, macAddress: '52:54:00:00:00:01' }] }, 'nic-changed'],
  ];
  for (const [change, kind] of cases) {
    t.same(driftsOf({ guest: guest({ definition: kept(change) }) }), [{ kind, remedy: 'restore' }], kind);
  }
  const otherwise = guest({ definition: kept({}, 'changed') });
  t.same(driftsOf({ guest: otherwise }), [{ kind: 'definition-changed', remedy: 'restore' }]);
});

t.test('what is attached to the running guest alone waits for its stop', async (t) => {
  const live = { disks: [...devices.disks, disk('/x.raw')], nics: [] };
  t.same(driftsOf({ guest: runningGuest({ live }) }), [
    { kind: 'disk-attached', remedy: 'after-stop' },
    { kind: 'nic-detached', remedy: 'after-stop' },
  ]);
});

t.test('memory that a balloon took, and CPUs that were plugged, are no drift', async (t) => {
  t.same(driftsOf({ guest: runningGuest({ memoryMib: 64, vcpus: 1 }) }), []);
});

t.test('a guest without a definition is defined again, whether it runs or not', async (t) => {
  const again = [{ kind: 'undefined', remedy: 'restore' }];
  t.same(driftsOf({ guest: runningGuest({ definition: null }) }), again);
  t.same(driftsOf({ guest: null, power: 'stopped', desired: 'stopped' }), again);
});

t.test('a renamed guest that runs gets all of its definition back after its stop', async (t) => {
  const definition = kept({ name: 'theirs', vcpus: 7 });
  t.same(driftsOf({ guest: runningGuest({ definition }) }), [
    { kind: 'renamed', remedy: 'after-stop' },
    { kind: 'size-changed', remedy: 'after-stop' },
  ]);
  t.same(driftsOf({ guest: runningGuest({ definition: null, name: 'theirs' }) }), [
    { kind: 'undefined', remedy: 'after-stop' },
    { kind: 'renamed', remedy: 'after-stop' },
  ]);
});

t.test('a disk that is another file, or lost metadata, keeps everything from being restored', async (t) => {
  const [root, seed] = devices.disks as [GuestDevices['disks'][0], GuestDevices['disks'][0]];
  const snapshot = { disks: [{ ...root, path: '/pool/root.snap1' }, seed] };
  const drifts = driftsOf({ guest: guest({ definition: kept({ ...snapshot, vcpus: 7 }) }) });
  t.same(drifts, [
    { kind: 'size-changed', remedy: 'restore' },
    { kind: 'disk-changed', remedy: 'by-hand' },
  ]);
  t.notOk(isRestorable(drifts));
  t.match(objectionTo(drifts), /another file/);
  const live = driftsOf({ guest: runningGuest({ live: { ...devices, ...snapshot } }) });
  t.same(live, [{ kind: 'disk-changed', remedy: 'by-hand' }]);
  const lost = driftsOf({ guest: guest({ ours: false, metadata: null }) });
  t.same(lost, [{ kind: 'metadata-lost', remedy: 'by-hand' }]);
  t.notOk(isRestorable(lost));
});

t.test(
  'another writer, or no baseline, takes a new one silently where the named parts are as wanted',
  async (t) => {
    const definition = { ...kept(), digest: 'in other words', writer: 'libvirt 10.0.0' };
    const { digest, writer } = definition;
    const judged = { verdict: 'judged', drifts: [], baseline: { digest, writer } };
    t.same(
      judge(situation({ guest: guest({ definition }) }), () => wanted),
      judged,
    );
    t.same(
      judge(situation({ guest: guest({ definition }), baseline: null }), () => wanted),
      judged,
    );
    const changed = { ...kept({ vcpus: 9 }), writer };
    t.match(
      judge(situation({ guest: guest({ definition: changed }), baseline: null }), () => wanted),
      {
        drifts: [{ kind: 'size-changed' }],
        baseline: null,
      },
    );
  },
);

const texts = fc.option(fc.string({ maxLength: 20 }), { nil: null });
const anyDisk = fc.record({ serial: texts, path: texts, format: texts, readOnly: fc.boolean() });
const anyNic = fc.record({ macAddress: fc.string({ maxLength: 20 }), bridge: texts, tapName: texts });
const anyDevices = fc.record({
  disks: fc.array(anyDisk, { maxLength: 60 }),
  nics: fc.array(anyNic, { maxLength: 60 }),
});
const anyShape = fc
  .tuple(
    anyDevices,
    fc.record({
      name: fc.string({ maxLength: 2_000 }),
      vcpus: fc.nat(),
      memoryMib: fc.nat(),
      firmware: fc.constantFrom('bios' as const, 'uefi' as const),
    }),
  )
  .map(([some, rest]) => ({ ...rest, ...some }));
const anyKept = fc.record({
  shape: anyShape,
  digest: fc.string(),
  writer: fc.constantFrom(WRITER, 'another'),
});
const anyGuest = fc
  .record({
    name: fc.string(),
    ours: fc.boolean(),
    power: fc.constantFrom(...POWER_STATES),
    definition: fc.option(anyKept, { nil: null }),
    live: fc.option(anyDevices, { nil: null }),
  })
  .map((some) => guest(some));
const anySituation: fc.Arbitrary<Situation> = fc.record({
  lifecycle: fc.constantFrom(...LIFECYCLES),
  power: fc.constantFrom(...POWER_STATES),
  isBusy: fc.boolean(),
  guest: fc.option(anyGuest, { nil: null }),
  baseline: fc.option(fc.record({ digest: fc.string(), writer: fc.constant(WRITER) }), { nil: null }),
  desired: fc.constantFrom(...DESIRES),
  isExcused: fc.boolean().map((excused) => () => excused),
});

t.test('nothing is judged of what is unknown, busy, being made or deleted', async (t) => {
  fc.assert(
    fc.property(anySituation, (any) => {
      const { verdict } = judge(any, () => wanted);
      const isDoubtful =
        any.lifecycle !== 'ready' || any.isBusy || any.power === 'unknown' || any.guest?.power === 'unknown';
      return (verdict === 'undecided') === isDoubtful;
    }),
  );
  t.pass('whatever the rest is');
});

t.test(
  'whatever the host says, the drifts are bounded, and a foreign guest is never to be restored',
  async (t) => {
    fc.assert(
      fc.property(anySituation, (any) => {
        const judgement = judge(any, () => wanted);
        if (judgement.verdict === 'undecided') return true;
        const { drifts } = judgement;
        const isBounded =
          drifts.length <= DRIFTS_LIMIT && drifts.every(({ detail }) => detail.length <= DETAIL_LIMIT);
        return isBounded && (any.guest === null || any.guest.ours || !isRestorable(drifts));
      }),
    );
    t.pass('for any of them');
  },
);

t.test('a define, as restoring does it, leaves nothing that a restore could mend', async (t) => {
  fc.assert(
    fc.property(anySituation, (any) => {
      const before = judge({ ...any, lifecycle: 'ready', isBusy: false, power: 'stopped' }, () => wanted);
      if (before.verdict === 'undecided' || restorable(before.drifts).definition.length === 0) return true;
      // What a define does: the definition is as wanted, what runs stays, and the baseline is taken.
      const after = { ...(any.guest ?? guest()), name: wanted.name, definition: kept() };
      const judged = judge(situation({ guest: after, power: after.power }), () => wanted);
      return judged.verdict === 'judged' && judged.drifts.every(({ remedy }) => remedy !== 'restore');
    }),
  );
  t.pass('whatever had been changed');
});
