import { type Scenario, scenario } from './scenario.ts';
import { SUBJECT } from './setting.ts';
import type { Stand } from '../stands/stand.ts';

const again = { whenFailed: 'is asked for again' } as const;

/** With a share from its start, so that more can come while it runs. */
async function startWithShare({ node }: Stand): Promise<void> {
  await node.run('instance.stop', { id: SUBJECT, mode: 'forced' });
  await node.run('share.attach', { id: 'first', instance: SUBJECT, access: 'read-only' });
  await node.run('instance.start', { id: SUBJECT });
}

export const SHARES: Scenario[] = [
  scenario('share.create', {
    setting: {},
    params: () => ({ name: 'new', protected: true }),
  }),
  scenario('share.configure', {
    setting: { shares: ['old'] },
    params: () => ({ id: 'old', name: 'new', protected: true }),
  }),
  scenario('share.delete', {
    setting: { shares: ['old'] },
    params: () => ({ id: 'old' }),
    ...again,
  }),
  scenario('share.attach', {
    setting: { instance: 'stopped', shares: ['old'] },
    params: () => ({ id: 'old', instance: SUBJECT }),
  }),
  scenario('share.attach', {
    variant: '(running)',
    // Without them libvirt can't plug a share in.
    drivers: ['sim'],
    setting: { instance: 'running', shares: ['first', 'old'] },
    arrange: startWithShare,
    params: () => ({ id: 'old', instance: SUBJECT, tag: 'data', access: 'read-only' as const }),
  }),
  scenario('share.attach', {
    variant: '(refused)',
    setting: { instance: 'running', shares: ['old'] },
    params: () => ({ id: 'old', instance: SUBJECT }),
    ends: ['failed'],
  }),
  scenario('share.detach', {
    setting: { instance: 'stopped', shares: ['old'] },
    arrange: ({ node }) => node.run('share.attach', { id: 'old', instance: SUBJECT }),
    params: () => ({ id: 'old', instance: SUBJECT }),
  }),
];
