import { join } from 'node:path';
import { UPLOAD } from '../node/feed-uploads.ts';
import { OTHER_POOL } from '../node/lab-node.ts';
import { type Scenario, scenario } from './scenario.ts';
import { IMAGE, SUBJECT } from './setting.ts';

const again = { whenFailed: 'is asked for again' } as const;
/** Of no image. */
const OTHER_DIGEST = 'f'.repeat(64);

export const STORAGE: Scenario[] = [
  scenario('image.import', {
    setting: {},
    params: ({ image }) => ({ name: 'new', ...image }),
  }),
  scenario('image.import', {
    variant: '(refused)',
    setting: {},
    params: ({ image }) => ({ name: 'new', ...image, sha256: OTHER_DIGEST }),
    ends: ['failed'],
  }),
  scenario('image.upload', {
    setting: {},
    params: () => ({ name: 'new', format: 'raw' as const, sizeBytes: UPLOAD.length }),
  }),
  scenario('image.verify', {
    setting: { images: ['old'] },
    params: () => ({ id: 'old' }),
    ...again,
  }),
  scenario('image.pin', {
    setting: { images: ['held'] },
    arrange: ({ node }) => node.run('image.pin', { id: 'held', pinned: false }),
    params: () => ({ id: 'held' }),
    ...again,
  }),
  scenario('image.delete', {
    setting: { images: ['old'] },
    params: () => ({ id: 'old' }),
    ...again,
  }),
  scenario('image.delete', {
    variant: '(with a copy in another pool)',
    setting: { images: ['old'] },
    async arrange({ node }) {
      await node.run('volume.create', { name: 'far', sizeGib: 1, image: 'old', pool: OTHER_POOL });
      await node.run('volume.delete', { id: 'far' });
    },
    params: () => ({ id: 'old' }),
    ...again,
  }),
  scenario('volume.create', {
    setting: {},
    params: () => ({ name: 'new', sizeGib: 1, image: IMAGE }),
  }),
  scenario('volume.create', {
    variant: '(a copy)',
    setting: { volumes: ['old'] },
    params: () => ({ name: 'new', sizeGib: 1, volume: 'old' }),
  }),
  scenario('volume.create', {
    variant: '(in another pool)',
    setting: {},
    params: () => ({ name: 'new', sizeGib: 1, image: IMAGE, pool: OTHER_POOL }),
  }),
  scenario('volume.create', {
    variant: '(a copy from another pool)',
    setting: { otherVolumes: ['far'] },
    params: () => ({ name: 'new', sizeGib: 1, volume: 'far' }),
  }),
  scenario('volume.delete', {
    variant: '(in another pool)',
    setting: { otherVolumes: ['far'] },
    params: () => ({ id: 'far' }),
    ...again,
  }),
  scenario('volume.attach', {
    variant: '(of another pool)',
    setting: { instance: 'running', otherVolumes: ['far'] },
    params: () => ({ id: 'far', instance: SUBJECT }),
  }),
  scenario('volume.delete', {
    setting: { volumes: ['old'] },
    params: () => ({ id: 'old' }),
    ...again,
  }),
  scenario('volume.delete', {
    variant: '(wiped)',
    setting: { volumes: ['old'] },
    params: () => ({ id: 'old', wipe: true }),
    ...again,
  }),
  scenario('volume.attach', {
    setting: { instance: 'running', volumes: ['old'] },
    params: () => ({ id: 'old', instance: SUBJECT }),
  }),
  scenario('volume.attach', {
    variant: '(stopped)',
    setting: { instance: 'stopped', volumes: ['old'] },
    params: () => ({ id: 'old', instance: SUBJECT }),
  }),
  scenario('volume.attach', {
    variant: '(refused)',
    setting: { instance: 'running', volumes: ['old'] },
    params: () => ({ id: 'old', instance: SUBJECT }),
    failing: { call: 'hypervisor.plugDisk' },
    ends: ['failed'],
  }),
  scenario('volume.detach', {
    setting: { instance: 'stopped', volumes: ['old'] },
    arrange: ({ node }) => node.run('volume.attach', { id: 'old', instance: SUBJECT }),
    params: () => ({ id: 'old' }),
  }),
  scenario('volume.grow', {
    setting: { volumes: ['old'] },
    params: () => ({ id: 'old', sizeGib: 2 }),
  }),
  scenario('volume.flatten', {
    setting: {},
    arrange: ({ node }) => node.run('volume.create', { name: 'new', sizeGib: 1, image: IMAGE }),
    params: () => ({ id: 'new' }),
    ...again,
  }),
  scenario('volume.flatten', {
    variant: '(running)',
    setting: { instance: 'running' },
    params: () => ({ id: `${SUBJECT}-disk0` }),
    ...again,
  }),
  scenario('volume.configure', {
    setting: { volumes: ['old'] },
    params: () => ({ id: 'old', protected: true, qos: { iops: { perSecond: 100 } } }),
  }),
  scenario('volume.export', {
    setting: { volumes: ['old'] },
    params: ({ node }, key) => ({ id: 'old', path: join(node.folder, `${key}.qcow2`) }),
  }),
];
