import { type Scenario, scenario } from './scenario.ts';
import { networkSpec } from './setting.ts';

export const NETWORKS: Scenario[] = [
  scenario('network.create', {
    setting: {},
    params: () => ({ spec: networkSpec('new', '10.79.0.0/24') }),
  }),
  scenario('network.delete', {
    setting: { networks: ['old'] },
    params: () => ({ id: 'old' }),
    whenFailed: 'is asked for again',
  }),
];
