/** `berth image …` */
import type { Image } from '../../model/storage.ts';
import { EXIT, usageError } from '../failure.ts';
import type { Leaf } from '../leaf.ts';
import { OPERATION_OPTIONS, operate } from '../operate.ts';
import { type Column, fields, type Look, table } from '../render/table.ts';
import { clean } from '../render/text.ts';
import { formatAge, formatBytes } from '../render/units.ts';
import { importLeaf, uploadLeaf } from './image-import.ts';
import { deleteLeaf, listLeaf, nameArgument, nameOf, showLeaf } from './nouns.ts';

const COLUMNS: Column<Image>[] = [
  { title: 'NAME', value: (image) => image.name },
  { title: 'STATE', value: (image) => image.state, state: true },
  { title: 'FORMAT', value: (image) => image.format },
  { title: 'SIZE', value: (image) => formatBytes(image.sizeBytes), align: 'right' },
  { title: 'VIRTUAL', value: (image) => formatBytes(image.virtualSizeBytes), align: 'right' },
  { title: 'AGE', value: (image, { nowMs }) => formatAge(image.createdAt, nowMs), align: 'right' },
  { title: 'ID', value: (image) => image.id },
];

const verifyLeaf: Leaf = {
  name: 'verify',
  summary: 'Read all of an image and compare it with its digest',
  args: [nameArgument('image')],
  options: OPERATION_OPTIONS,
  doing: (given) => `verify image ${nameOf(given)}`,
  run: (session, given) =>
    operate(session, given, {
      method: 'image.verify',
      params: { id: nameOf(given) },
      done: `Image ${nameOf(given)} is as it was made, looked at`,
    }),
};

const pinLeaf = (pinned: boolean): Leaf => ({
  name: pinned ? 'pin' : 'unpin',
  summary: pinned ? 'Keep an image in the cache whatever its age' : 'Let an image age, and be evicted',
  args: [nameArgument('image')],
  options: OPERATION_OPTIONS,
  doing: (given) => `${pinned ? 'pin' : 'unpin'} image ${nameOf(given)}`,
  run: (session, given) =>
    operate(session, given, {
      method: 'image.pin',
      params: { id: nameOf(given), pinned },
      done: `${pinned ? 'Pinned' : 'Unpinned'} image ${nameOf(given)}`,
    }),
});

const specLeaf: Leaf = {
  name: 'spec',
  summary: 'Print an instance spec for the machine that an OVA was made of',
  args: [nameArgument('image')],
  details: 'The spec goes to standard output, and what it cannot say to standard error.',
  doing: (given) => `make a spec from image ${nameOf(given)}`,
  async run(session, given) {
    const { image } = await session.client.call('image.show', { id: nameOf(given) });
    if (image.hardware === null) {
      throw usageError(`Image ${image.name} does not say what machine it is from`, {
        hint: 'Only images that came as an OVA do.',
      });
    }
    const { suggestInstance } = await import('../../model/hardware.ts');
    const { spec, notes } = suggestInstance(image.name, image.hardware);
    for (const note of notes) session.note(clean(note));
    session.answer(spec, () => `${JSON.stringify(spec, null, 2)}\n`);
    return EXIT.done;
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
          ...(shown.damage === null ? [] : [['Damage', shown.damage] as const]),
          [
            'Format',
            shown.format === shown.sourceFormat
              ? shown.format
              : `${shown.format}, from ${shown.sourceFormat}`,
          ],
          ['Size', `${formatBytes(shown.sizeBytes)} (${shown.sizeBytes} bytes)`],
          ['Virtual size', `${formatBytes(shown.virtualSizeBytes)} (${shown.virtualSizeBytes} bytes)`],
          ['SHA-256', shown.sha256 ?? '-'],
          ['SHA-256 of the file', shown.fileSha256 ?? '-'],
          ['Pinned', shown.pinned ? 'yes' : 'no'],
          ['Last used', sinceThen(shown.lastUsedAt, look)],
          ['Verified', sinceThen(shown.verifiedAt, look)],
          ['Pool', shown.pool],
          ['Created', `${shown.createdAt} (${formatAge(shown.createdAt, look.nowMs)} ago)`],
        ],
        look,
      ),
  }),
  importLeaf,
  uploadLeaf,
  verifyLeaf,
  pinLeaf(true),
  pinLeaf(false),
  specLeaf,
  deleteLeaf({
    method: 'image.delete',
    kind: 'image',
    summary: 'Delete an image that no volume stands on',
  }),
];

function sinceThen(time: string | null, { nowMs }: Look): string {
  return time === null ? 'never' : `${formatAge(time, nowMs)} ago`;
}
