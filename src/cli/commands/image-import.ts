/** `berth image import` and `berth image upload`. */
import { resolve } from 'node:path';
import type { Params } from '../../model/methods.ts';
import { usageError } from '../failure.ts';
import type { Given, Leaf, OptionSpec } from '../leaf.ts';
import { OPERATION_OPTIONS, operate } from '../operate.ts';
import { COMPRESSIONS, SOURCE_FORMATS } from '../words.ts';
import { nameOf } from './nouns.ts';

/**
 * What the end of a file's name says of it, to whoever gave the name; the agent itself never guesses. `.img` says
 * nothing: Ubuntu's are qcow2, others' are raw.
 */
const FORMAT_OF_SUFFIX: Readonly<Record<string, (typeof SOURCE_FORMATS)[number]>> = {
  qcow2: 'qcow2',
  raw: 'raw',
  vmdk: 'vmdk',
  vhd: 'vpc',
  vhdx: 'vhdx',
  vdi: 'vdi',
  ova: 'ova',
};
const COMPRESSION_OF_SUFFIX: Readonly<Record<string, (typeof COMPRESSIONS)[number]>> = {
  gz: 'gzip',
  xz: 'xz',
  zst: 'zstd',
};

const BYTES_OPTIONS: readonly OptionSpec[] = [
  {
    flag: 'format',
    value: 'format',
    choices: SOURCE_FORMATS,
    summary: 'format of the source (default: what its name ends with, else qcow2)',
  },
  {
    flag: 'compression',
    value: 'compression',
    choices: COMPRESSIONS,
    summary: 'how it is packed (default: what its name ends with: .gz, .xz, .zst)',
  },
  { flag: 'sha256', value: 'digest', summary: 'refuse the source unless it has this SHA-256' },
  { flag: 'sha512', value: 'digest', summary: 'refuse the source unless it has this SHA-512' },
  { flag: 'disk', value: 'number', integer: true, summary: 'which disk of an OVA, from 0 (default: 0)' },
  { flag: 'pin', summary: 'never evict it from the cache' },
];

export const importLeaf: Leaf = {
  name: 'import',
  summary: 'Fetch an image, check it, and keep it read-only',
  args: [
    { name: 'name', summary: 'name to give it' },
    { name: 'source', summary: 'file on this host, http(s) URL, or s3://STORE/KEY', completes: 'file' },
  ],
  options: [
    ...BYTES_OPTIONS,
    {
      flag: 'mirror',
      value: 'source',
      repeatable: true,
      summary: 'another place where the same bytes are; may be repeated',
    },
    {
      flag: 'signature',
      value: 'source',
      summary: 'file or URL of a detached OpenPGP signature of the source',
    },
    ...OPERATION_OPTIONS,
  ],
  details: 'An image that came as an OVA knows its machine: `berth image spec` makes an instance spec of it.',
  doing: (given) => `import image ${nameOf(given)}`,
  async run(session, given) {
    const { cwd } = session.io;
    const source = placeOf(given.argument('source'), cwd);
    const signature = given.text('signature');
    const params = {
      ...bytesOf(given, source),
      name: nameOf(given),
      source,
      mirrors: given.texts('mirror').map((mirror) => placeOf(mirror, cwd)),
      ...(signature === undefined ? {} : { signature: placeOf(signature, cwd) }),
    };
    return operate(session, given, { method: 'image.import', params, done: `Imported image ${params.name}` });
  },
};

export const uploadLeaf: Leaf = {
  name: 'upload',
  summary: 'Send an image to the agent, which checks it and keeps it read-only',
  args: [
    { name: 'name', summary: 'name to give it' },
    { name: 'file', summary: 'file to send', completes: 'file' },
  ],
  options: [...BYTES_OPTIONS, ...OPERATION_OPTIONS],
  details: 'Its digest is sent along. What breaks off, also by a restart of the agent, is gone on with.',
  doing: (given) => `upload image ${nameOf(given)}`,
  async run(session, given) {
    const { uploadImage } = await import('../upload.ts');
    const path = resolve(session.io.cwd, given.argument('file'));
    return uploadImage(session, given, { path, params: { ...bytesOf(given, path), name: nameOf(given) } });
  },
};

type BytesParams = Pick<
  Params<'image.upload'>,
  'format' | 'compression' | 'sha256' | 'sha512' | 'disk' | 'pinned'
>;

function bytesOf(given: Given, source: string): BytesParams {
  const { format, compression } = named(source);
  const sha256 = given.text('sha256')?.toLowerCase();
  const sha512 = given.text('sha512')?.toLowerCase();
  return {
    format: SOURCE_FORMATS.find((each) => each === given.text('format')) ?? format,
    compression: COMPRESSIONS.find((each) => each === given.text('compression')) ?? compression,
    disk: given.integer('disk') ?? 0,
    pinned: given.on('pin'),
    ...(sha256 === undefined ? {} : { sha256 }),
    ...(sha512 === undefined ? {} : { sha512 }),
  };
}

/** What a source is by its name, as in debian.raw.xz; the query of a URL is no part of it. */
function named(source: string): Pick<BytesParams, 'format' | 'compression'> {
  const path = /^https?:/.test(source) ? (URL.parse(source)?.pathname ?? '') : source;
  const suffixes = path.toLowerCase().split('/').at(-1)?.split('.').slice(1) ?? [];
  const compression = COMPRESSION_OF_SUFFIX[suffixes.at(-1) ?? ''];
  const format = FORMAT_OF_SUFFIX[suffixes.at(compression === undefined ? -1 : -2) ?? ''];
  return { format: format ?? 'qcow2', compression: compression ?? 'none' };
}

/** The agent takes absolute paths only: it does not know where the operator stands. */
function placeOf(source: string, cwd: string): string {
  if (/^(https?|s3):\/\//.test(source)) return source;
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(source)) {
    throw usageError(`Cannot import from ${source}: neither a file nor a URL that is known`, {
      hint: 'Give a path, a URL that begins with http:// or https://, or s3://STORE/KEY.',
    });
  }
  return resolve(cwd, source);
}
