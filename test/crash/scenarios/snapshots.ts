import type { Stand } from '../stands/stand.ts';
import { type Scenario, scenario } from './scenario.ts';
import { SUBJECT } from './setting.ts';

const OLD = 'old';

async function haveSnapshot({ node }: Stand): Promise<void> {
  const { snapshots } = await node.call('snapshot.list', { id: SUBJECT });
  if (snapshots.length === 0) await node.run('snapshot.create', { id: SUBJECT, name: OLD });
}

async function haveMemory({ node }: Stand): Promise<void> {
  const { snapshots } = await node.call('snapshot.list', { id: SUBJECT });
  if (snapshots.length > 0) return;
  await node.run('instance.start', { id: SUBJECT });
  await node.run('snapshot.create', { id: SUBJECT, name: OLD, memory: true });
  await node.run('instance.stop', { id: SUBJECT, mode: 'forced' });
}

/** Two layers that nothing keeps any more, and one that a snapshot between them does. */
async function haveLayers({ node }: Stand): Promise<void> {
  for (const name of ['first', 'second', 'third']) await node.run('snapshot.create', { id: SUBJECT, name });
  for (const snapshot of ['first', 'third']) await node.run('snapshot.delete', { id: SUBJECT, snapshot });
}

const one = () => ({ id: SUBJECT, name: 'new' });
const old = () => ({ id: SUBJECT, snapshot: OLD });

export const SNAPSHOTS: Scenario[] = [
  scenario('snapshot.create', { setting: { instance: 'running' }, params: one }),
  scenario('snapshot.create', { variant: '(stopped)', setting: { instance: 'stopped' }, params: one }),
  scenario('snapshot.create', {
    variant: '(memory)',
    setting: { instance: 'running' },
    params: () => ({ ...one(), memory: true }),
  }),
  scenario('snapshot.create', {
    variant: '(in two pools)',
    setting: { instance: 'stopped', otherVolumes: ['far'] },
    arrange: ({ node }) => node.run('volume.attach', { id: 'far', instance: SUBJECT }),
    params: one,
  }),
  scenario('snapshot.create', {
    variant: '(refused)',
    setting: { instance: 'running' },
    params: one,
    failing: { call: 'hypervisor.switchDisks' },
    ends: ['failed'],
  }),
  scenario('snapshot.revert', {
    setting: { instance: 'stopped' },
    arrange: haveSnapshot,
    params: old,
  }),
  scenario('snapshot.create', {
    variant: '(UEFI)',
    setting: { instance: 'stopped', firmware: 'uefi' },
    params: one,
  }),
  scenario('snapshot.revert', {
    variant: '(UEFI)',
    setting: { instance: 'stopped', firmware: 'uefi' },
    arrange: haveSnapshot,
    params: old,
  }),
  scenario('snapshot.delete', {
    variant: '(UEFI)',
    setting: { instance: 'stopped', firmware: 'uefi' },
    arrange: haveSnapshot,
    params: old,
  }),
  scenario('snapshot.revert', {
    variant: '(memory)',
    setting: { instance: 'stopped' },
    arrange: haveMemory,
    params: old,
  }),
  scenario('snapshot.delete', { setting: { instance: 'running' }, arrange: haveSnapshot, params: old }),
  scenario('snapshot.merge', {
    setting: { instance: 'running' },
    arrange: haveLayers,
    params: () => ({ id: SUBJECT }),
    whenFailed: 'is asked for again',
  }),
  scenario('snapshot.merge', {
    variant: '(stopped)',
    setting: { instance: 'stopped' },
    arrange: haveLayers,
    params: () => ({ id: SUBJECT }),
    whenFailed: 'is asked for again',
  }),
];
