/** `berth image …` */
import { resolve } from 'node:path';
import type { Image } from '../../model/storage.ts';
import { usageError } from '../failure.ts';
import type { Given, Leaf } from '../leaf.ts';
import { OPERATION_OPTIONS, operate } from '../operate.ts';
import { type Column, fields, table } from '../render/table.ts';
import { formatAge, formatBytes } from '../render/units.ts';
import { IMAGE_FORMATS } from '../words.ts';
import { deleteLeaf, listLeaf, nameOf, showLeaf } from './nouns.ts';

const COLUMNS: Column<Image>[] = [
  { title: 'NAME', value: (image) => image.name },
  { title: 'STATE', value: (image) => image.state, state: true },
  { title: 'FORMAT', value: (image) => image.format },
  { title: 'SIZE', value: (image) => formatBytes(image.sizeBytes), align: 'right' },
  { title: 'VIRTUAL', value: (image) => formatBytes(image.virtualSizeBytes), align: 'right' },
  { title: 'AGE', value: (image, { nowMs }) => formatAge(image.createdAt, nowMs), align: 'right' },
  { title: 'ID', value: (image) => image.id },
];

const importLeaf: Leaf = {
  name: 'import',
  summary: 'Fetch an image, check it, and keep it read-only',
  args: [
    { name: 'name', summary: 'name to give it' },
    { name: 'source', summary: 'file on this host, or http(s) URL', completes: 'file' },
  ],
  options: [
    {
      flag: 'format',
      value: 'format',
      choices: IMAGE_FORMATS,
      summary: 'format of the source (default: qcow2)',
    },
    { flag: 'sha256', value: 'digest', summary: 'refuse the source unless it has this SHA-256' },
    ...OPERATION_OPTIONS,
  ],
  doing: (given) => `import image ${nameOf(given)}`,
  async run(session, given) {
    const sha256 = given.text('sha256')?.toLowerCase();
    const params = {
      name: nameOf(given),
      source: sourceOf(given, session.io.cwd),
      format: IMAGE_FORMATS.find((format) => format === given.text('format')) ?? 'qcow2',
      ...(sha256 === undefined ? {} : { sha256 }),
    };
    return operate(session, given, { method: 'image.import', params, done: `Imported image ${params.name}` });
  },
};

export const commands: readonly Leaf[] = [
  listLeaf({
    method: 'image.list',
    plural: 'images',
    render: ({ images }, look) => table(COLUMNS, images, look),
  }),
  showLeaf({
    method: 'image.show',
    kind: 'image',
    render: ({ image: shown }, look) =>
      fields(
        [
          ['Name', shown.name],
          ['ID', shown.id],
          ['State', shown.state, 'state'],
          ['Format', shown.format],
          ['Size', `${formatBytes(shown.sizeBytes)} (${shown.sizeBytes} bytes)`],
          ['Virtual size', `${formatBytes(shown.virtualSizeBytes)} (${shown.virtualSizeBytes} bytes)`],
          ['SHA-256', shown.sha256 ?? '-'],
          ['Pool', shown.pool],
          ['Created', `${shown.createdAt} (${formatAge(shown.createdAt, look.nowMs)} ago)`],
        ],
        look,
      ),
  }),
  importLeaf,
  deleteLeaf({
    method: 'image.delete',
    kind: 'image',
    summary: 'Delete an image that no volume stands on',
  }),
];

/** The agent takes absolute paths only: it does not know where the operator stands. */
function sourceOf(given: Given, cwd: string): string {
  const source = given.argument('source');
  if (/^https?:\/\//.test(source)) return source;
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(source)) {
    throw usageError(`Cannot import from ${source}: neither a file nor an http(s) URL`, {
      hint: 'Give a path, or a URL that begins with http:// or https://.',
    });
  }
  return resolve(cwd, source);
}
