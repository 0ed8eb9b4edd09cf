/** Methods of images. */
import { Fence, Id, Name, NameOrId, Sha256, Sha512, strict } from '../common.ts';
import { type Method, none, one, operation, read } from '../method.ts';
import { Type } from '../schema.ts';
import { COMPRESSIONS, Image, SOURCE_FORMATS } from '../storage.ts';

/** Mirrors of an image; more than a few are tried by nobody. */
const MIRRORS_MAX = 8;
/** Bytes of an upload in one message: as base64 they are well within what a message may have. */
const APPEND_BYTES_MAX = 4 * 1024 * 1024;
/** Disks of an OVA; its machine has no more. */
const OVA_DISK_MAX = 63;

const Source = Type.String({
  pattern: '^(/|https?://|s3://)[^\\x00-\\x20]{0,2047}$',
  description: 'absolute path on the host, http(s) URL, or s3://STORE/KEY of an object store of this node',
});

/** What is said of an image's bytes, wherever they come from. */
const ImageParams = {
  format: Type.Enum([...SOURCE_FORMATS], {
    default: 'qcow2',
    description: 'format of the bytes; all but qcow2 and raw are converted to qcow2',
  }),
  compression: Type.Enum([...COMPRESSIONS], { default: 'none', description: 'how they are packed' }),
  sha256: Type.Optional(Sha256),
  sha512: Type.Optional(Sha512),
  disk: Type.Integer({
    minimum: 0,
    maximum: OVA_DISK_MAX,
    default: 0,
    description: 'which disk of an OVA, from 0',
  }),
  pinned: Type.Boolean({ default: false, description: 'never evicted from the cache' }),
};

export const IMAGE_METHODS = {
  'image.list': read('List the images.', none, strict({ images: Type.Array(Image) })),
  'image.show': read('Show one image.', one, strict({ image: Image })),
  'image.import': {
    ...operation(
      'Fetch an image from a file of this host, by http(s) or from an object store, check it as hostile, and keep it read-only.',
      strict({
        name: Name,
        source: Source,
        mirrors: Type.Array(Source, {
          maxItems: MIRRORS_MAX,
          default: [],
          description: 'more places where the same bytes are, tried in order when one fails',
        }),
        ...ImageParams,
        signature: Type.Optional({
          ...Source,
          description:
            'path or URL of a detached OpenPGP signature of the source, by a key of images.keyring',
        }),
        ...Fence,
      }),
    ),
    raised: {
      role: 'admin',
      words: 'for a path, since it reads a file of the host',
      needed: ({ source, mirrors, signature }) =>
        [source, ...(mirrors as string[]), signature].some((place) => String(place ?? '').startsWith('/')),
    },
  },
  'image.upload': {
    ...operation(
      'Take an image whose bytes the caller sends (image.append; on the local socket also PUT /v1/uploads/<image>), and import it.',
      strict({
        name: Name,
        sizeBytes: Type.Integer({
          minimum: 1,
          maximum: Number.MAX_SAFE_INTEGER,
          description: 'bytes that will be sent',
        }),
        ...ImageParams,
        ...Fence,
      }),
    ),
    role: 'admin',
  },
  'image.append': {
    ...read(
      'Append bytes to the file on the host that an image.upload waits for, and tell how many are there; without bytes only tell.',
      strict({
        image: Id,
        at: Type.Integer({
          minimum: 0,
          maximum: Number.MAX_SAFE_INTEGER,
          default: 0,
          description: 'bytes that the caller believes to be there; if others are, STALE with `details.at`',
        }),
        data: Type.String({
          maxLength: Math.ceil(APPEND_BYTES_MAX / 3) * 4,
          default: '',
          description: `base64, of at most ${APPEND_BYTES_MAX} bytes`,
        }),
      }),
      strict({ at: Type.Integer({ minimum: 0, description: 'bytes that are there now, on the disk' }) }),
    ),
    role: 'admin',
  },
  'image.verify': operation(
    'Read all of an image and compare it with its digest; one that has changed becomes damaged.',
    strict({ id: NameOrId, ...Fence }),
    'ready, damaged',
  ),
  'image.pin': operation(
    'Keep an image in the cache whatever its age, or let it age again.',
    strict({ id: NameOrId, pinned: Type.Boolean({ default: true }), ...Fence }),
    'ready, damaged',
  ),
  'image.delete': operation(
    'Delete an image that no volume stands on.',
    strict({ id: NameOrId, ...Fence }),
    'ready, damaged',
  ),
} as const satisfies Record<string, Method>;
