import type { InstanceSpec } from '../../../src/model/instance.ts';
import type { Params } from '../../../src/model/methods.ts';
import { SHARED_POOL } from '../node/lab-node.ts';
import { LENT, lentName } from '../stands/lent.ts';
import { type Scenario, scenario } from './scenario.ts';
import { instanceSpec, RESERVATION, SUBJECT } from './setting.ts';

/** Seconds given to a guest that may not be there any more. */
const PATIENCE_S = 20;
const again = { whenFailed: 'is asked for again' } as const;

/** What another node had. */
function lent(more: Partial<InstanceSpec> = {}): Partial<Params<'instance.takeover'>> {
  return {
    id: LENT.instance,
    spec: instanceSpec(SUBJECT, { disks: LENT.volumes.map((volume) => ({ volume })), ...more }),
    from: { node: LENT.node, fence: 1 },
    volumes: LENT.volumes.map((id) => ({ id, name: lentName(id), pool: SHARED_POOL, sizeGib: 1 })),
  };
}

export const INSTANCES: Scenario[] = [
  scenario('instance.create', {
    setting: {},
    params: () => ({ spec: instanceSpec(SUBJECT) }),
  }),
  scenario('instance.create', {
    variant: '(with shares)',
    // Without control groups libvirt serves none.
    drivers: ['sim'],
    setting: { shares: ['old'] },
    params: () => ({
      spec: instanceSpec(SUBJECT, { shares: [{ share: 'old', tag: 'data', access: 'read-only' }] }),
    }),
  }),
  scenario('instance.create', {
    variant: '(fails at its end)',
    setting: {},
    params: () => ({ spec: instanceSpec(SUBJECT) }),
    failing: { call: 'hypervisor.observeGuest' },
    ends: ['failed'],
  }),
  scenario('instance.create', {
    variant: '(from a reservation)',
    setting: { reservation: true },
    params: () => ({ spec: instanceSpec(SUBJECT), reservation: RESERVATION }),
  }),
  scenario('instance.create', {
    variant: '(from a reservation, fails at its end)',
    setting: { reservation: true },
    params: () => ({ spec: instanceSpec(SUBJECT), reservation: RESERVATION }),
    failing: { call: 'hypervisor.observeGuest' },
    ends: ['failed'],
  }),
  scenario('instance.create', {
    variant: '(cancelled)',
    setting: {},
    params: () => ({ spec: instanceSpec(SUBJECT) }),
    cancelledAt: { call: 'hypervisor.define' },
    ends: ['cancelled', 'succeeded'],
  }),
  scenario('instance.takeover', {
    setting: {},
    arrange: (stand) => stand.lendVolumes(),
    params: () => lent(),
  }),
  scenario('instance.takeover', {
    variant: '(fails at its end)',
    setting: {},
    arrange: (stand) => stand.lendVolumes(),
    params: () => lent(),
    failing: { call: 'hypervisor.observeGuest' },
    ends: ['failed'],
  }),
  scenario('instance.takeover', {
    variant: '(cancelled)',
    setting: {},
    arrange: (stand) => stand.lendVolumes(),
    params: () => lent(),
    cancelledAt: { call: 'hypervisor.define' },
    ends: ['cancelled', 'succeeded'],
  }),
  scenario('instance.takeover', {
    variant: '(with snapshots)',
    setting: {},
    arrange: (stand) => stand.lendVolumes({ snapshots: true }),
    params: () => lent(),
  }),
  scenario('instance.takeover', {
    variant: '(with snapshots, fails at its end)',
    setting: {},
    arrange: (stand) => stand.lendVolumes({ snapshots: true }),
    params: () => lent(),
    failing: { call: 'hypervisor.observeGuest' },
    ends: ['failed'],
  }),
  scenario('instance.takeover', {
    variant: '(UEFI)',
    drivers: ['sim'],
    setting: {},
    arrange: (stand) => stand.lendVolumes({ variables: true }),
    params: () => lent({ firmware: 'uefi' }),
  }),
  scenario('instance.takeover', {
    variant: '(UEFI, refused)',
    drivers: ['sim'],
    setting: {},
    arrange: (stand) => stand.lendVolumes({ variables: true }),
    params: () => lent({ firmware: 'uefi' }),
    failing: { call: 'hypervisor.writeNvram' },
    ends: ['failed'],
  }),
  scenario('instance.start', {
    setting: { instance: 'stopped' },
    params: () => ({ id: SUBJECT }),
    ...again,
  }),
  scenario('instance.stop', {
    variant: '(graceful)',
    setting: { instance: 'running' },
    params: () => ({ id: SUBJECT, mode: 'graceful' as const, timeoutSeconds: PATIENCE_S }),
    ...again,
  }),
  scenario('instance.stop', {
    variant: '(forced)',
    setting: { instance: 'running' },
    params: () => ({ id: SUBJECT, mode: 'forced' as const }),
    ...again,
  }),
  scenario('instance.reboot', {
    variant: '(graceful)',
    setting: { instance: 'running' },
    params: () => ({ id: SUBJECT, mode: 'graceful' as const, timeoutSeconds: PATIENCE_S }),
    reboots: true,
    ...again,
  }),
  scenario('instance.reboot', {
    variant: '(forced)',
    setting: { instance: 'running' },
    params: () => ({ id: SUBJECT, mode: 'forced' as const }),
    reboots: true,
    ...again,
  }),
  scenario('instance.configure', {
    setting: { instance: 'running' },
    params: () => ({ id: SUBJECT, policies: { onBoot: 'never' as const } }),
  }),
  scenario('instance.restore', {
    setting: { instance: 'stopped' },
    params: () => ({ id: SUBJECT }),
    ...again,
  }),
  scenario('instance.delete', {
    setting: { instance: 'running' },
    params: () => ({ id: SUBJECT }),
    ...again,
  }),
  scenario('instance.delete', {
    variant: '(wiped)',
    setting: { instance: 'running' },
    params: () => ({ id: SUBJECT, wipe: true }),
    ...again,
  }),
];
