/** `berth volume …` */
import { resolve } from 'node:path';
import type { Volume } from '../../model/storage.ts';
import { usageError } from '../failure.ts';
import type { Leaf } from '../leaf.ts';
import { OPERATION_OPTIONS, operate } from '../operate.ts';
import { type Column, fields, table } from '../render/table.ts';
import { formatAge, formatGib } from '../render/units.ts';
import { EXPORT_FORMATS } from '../words.ts';
import { attachLeaf, configureLeaf, detachLeaf, flattenLeaf, growLeaf } from './volume-change.ts';
import { ENCRYPTION_OPTION, encryptionOf } from './encryption-option.ts';
import { deleteLeaf, listLeaf, nameArgument, nameOf, showLeaf } from './nouns.ts';

const COLUMNS: Column<Volume>[] = [
  { title: 'NAME', value: (volume) => volume.name },
  { title: 'STATE', value: (volume) => volume.state, state: true },
  { title: 'SIZE', value: (volume) => formatGib(volume.sizeGib), align: 'right' },
  { title: 'POOL', value: (volume) => volume.pool },
  { title: 'KEY', value: (volume) => volume.encryption?.key ?? '-' },
  { title: 'INSTANCE', value: (volume) => volume.instanceId ?? '-' },
  { title: 'AGE', value: (volume, { nowMs }) => formatAge(volume.createdAt, nowMs), align: 'right' },
  { title: 'ID', value: (volume) => volume.id },
];

const createLeaf: Leaf = {
  name: 'create',
  summary: 'Make a volume: empty, on an image, or a copy of another one',
  args: [{ name: 'name', summary: 'name to give it' }],
  options: [
    { flag: 'size-gib', value: 'gib', integer: true, summary: 'size in GiB (required)' },
    { flag: 'pool', value: 'pool', completes: 'pool', summary: 'pool to make it in (default: default)' },
    { flag: 'image', value: 'image', completes: 'image', summary: 'image to stand on' },
    { flag: 'volume', value: 'volume', completes: 'volume', summary: 'volume to copy' },
    { flag: 'snapshot', value: 'snapshot', summary: 'snapshot at which that volume is copied' },
    ENCRYPTION_OPTION,
    { flag: 'protect', summary: 'keep it from being deleted' },
    ...OPERATION_OPTIONS,
  ],
  details: 'A copy of an encrypted volume is encrypted by the same key, unless another or none is asked for.',
  doing: (given) => `create volume ${nameOf(given)}`,
  async run(session, given) {
    const sizeGib = given.integer('size-gib');
    if (sizeGib === undefined) {
      throw usageError('--size-gib is missing', { hint: 'Give the size in GiB, as in --size-gib 10.' });
    }
    const pool = given.text('pool');
    const image = given.text('image');
    const volume = given.text('volume');
    const snapshot = given.text('snapshot');
    const params = {
      name: nameOf(given),
      sizeGib,
      ...(pool === undefined ? {} : { pool }),
      ...(image === undefined ? {} : { image }),
      ...(volume === undefined ? {} : { volume }),
      ...(snapshot === undefined ? {} : { snapshot }),
      ...encryptionOf(given),
      ...(given.has('protect') && { protected: true }),
    };
    return operate(session, given, {
      method: 'volume.create',
      params,
      done: `Created volume ${params.name}`,
    });
  },
};

const exportLeaf: Leaf = {
  name: 'export',
  summary: 'Write a volume into one file, with its SHA-256 beside it',
  args: [
    nameArgument('volume'),
    { name: 'path', summary: 'file to make; its digest goes to PATH.sha256', completes: 'file' },
  ],
  options: [
    {
      flag: 'format',
      value: 'format',
      choices: EXPORT_FORMATS,
      summary: 'format of the file (default: qcow2)',
    },
    { flag: 'decrypt', summary: 'write an encrypted volume in clear' },
    ...OPERATION_OPTIONS,
  ],
  details:
    'No guest may use the volume meanwhile. `sha256sum -c PATH.sha256` checks the file wherever it goes.',
  doing: (given) => `export volume ${nameOf(given)}`,
  async run(session, given) {
    const path = resolve(session.io.cwd, given.argument('path'));
    const format = EXPORT_FORMATS.find((each) => each === given.text('format')) ?? 'qcow2';
    return operate(session, given, {
      method: 'volume.export',
      params: { id: nameOf(given), path, format, ...(given.has('decrypt') && { decrypt: true }) },
      done: `Exported volume ${nameOf(given)} to ${path}`,
    });
  },
};

/** Only what differs from the host's choice. */
function deviceText({ device: { bus = 'virtio', cache, aio, iothread } }: Volume): string {
  const words = [bus, cache && `cache ${cache}`, aio && `aio ${aio}`, iothread && 'a thread of its own'];
  return words.filter((word) => typeof word === 'string').join(', ');
}

function limitsText({ qos }: Volume): string {
  if (qos === null) return '-';
  const texts = Object.entries(qos).map(([name, { perSecond, burst, burstSeconds = 1 }]) => {
    const peak = burst === undefined ? '' : ` (${burst} for ${burstSeconds} s)`;
    return `${name} ${perSecond}/s${peak}`;
  });
  return texts.join(', ');
}

export const commands: readonly Leaf[] = [
  listLeaf({
    method: 'volume.list',
    plural: 'volumes',
    render: ({ volumes }, look) => table(COLUMNS, volumes, look),
  }),
  showLeaf({
    method: 'volume.show',
    kind: 'volume',
    render: ({ volume: shown }, look) =>
      fields(
        [
          ['Name', shown.name],
          ['ID', shown.id],
          ['State', shown.state, 'state'],
          ['Size', formatGib(shown.sizeGib)],
          ['Image', shown.imageId ?? '-'],
          ['Instance', shown.instanceId ?? '-'],
          ['Deleted with instance', shown.deletedWithInstance ? 'yes' : 'no'],
          ['Protected', shown.protected ? 'yes' : 'no'],
          ['Device', deviceText(shown)],
          ['Limits', limitsText(shown)],
          ['Encrypted', shown.encryption === null ? 'no' : `yes, by key ${shown.encryption.key}`],
          ['Pool', shown.pool],
          ['Created', `${shown.createdAt} (${formatAge(shown.createdAt, look.nowMs)} ago)`],
        ],
        look,
      ),
  }),
  createLeaf,
  attachLeaf,
  detachLeaf,
  growLeaf,
  flattenLeaf,
  configureLeaf,
  exportLeaf,
  deleteLeaf({
    method: 'volume.delete',
    kind: 'volume',
    summary: 'Delete a volume that no instance uses',
    loses: 'what is on it',
    wipes: true,
  }),
];
