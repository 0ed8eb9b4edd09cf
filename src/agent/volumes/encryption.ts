/**
 * Encrypted volumes: by which key, and what has to be so before one is opened.
 *
 *   volume's row: name of a key ─▶ keys of the node ─▶ pool: does it open the file? ─▶ hypervisor: its passphrase
 *
 * No passphrase is here, nor in a plan: drivers ask for it where they use it.
 */
import { type KeyOfVolume, unknownKey } from '../../drivers/contracts/keys.ts';
import type { Encryption } from '../../model/disk.ts';
import { AgentError } from '../../model/errors.ts';
import type { Volume } from '../../model/storage.ts';
import type { Services } from '../services.ts';
import type { MadeName } from '../store/names.ts';

/** As it is asked for, by a key that this node has. @throws {AgentError} NOT_FOUND */
export function knownEncryption(
  { keys }: Pick<Services, 'keys'>,
  asked: Encryption | null | undefined,
): Encryption | null {
  if (asked === null || asked === undefined) return null;
  if (!keys.names.includes(asked.key)) throw unknownKey(asked.key, keys.names);
  return asked;
}

/** What opens a volume and its layers; null where nothing is needed. */
export function keyOf({ id, encryption }: Pick<Volume, 'id' | 'encryption'>): KeyOfVolume | null {
  return encryption === null ? null : { volumeId: id, key: encryption.key };
}

/** What opens those of them that are encrypted. */
export function keysOf(volumes: readonly Volume[]): KeyOfVolume[] {
  return volumes.flatMap((volume) => keyOf(volume) ?? []);
}

/** The same as a part of what a driver is told, which says nothing of it where there is nothing. */
export function keyed(volume: Pick<Volume, 'id' | 'encryption'>): { encryption?: KeyOfVolume } {
  const key = keyOf(volume);
  return key === null ? {} : { encryption: key };
}

/**
 * To be called whenever a guest is to open files of the volumes: the key of each is tried on its file, and its
 * passphrase handed to the hypervisor, which may have been started anew since the last time.
 *
 * @throws {AgentError} NOT_FOUND, PERMISSION_DENIED: a key that is missing, can't be read, or is another one.
 */
export async function handOverKeys(
  { hypervisor, pools, store }: Pick<Services, 'hypervisor' | 'pools' | 'store'>,
  volumes: readonly Volume[],
  signal: AbortSignal,
): Promise<void> {
  const encrypted = volumes.filter(({ encryption }) => encryption !== null);
  for (const { id, encryption } of encrypted)
    await pools.holding(id).checkKey({ id, encryption, layers: store.layers.chainOf(id) }, { signal });
  const keys = keysOf(encrypted);
  if (keys.length > 0) await hypervisor.giveKeys(keys, { signal });
}

/** What the hypervisor keeps of a volume while there is one, by the name that the journal has for it. */
export function secretsOf(volumes: readonly { id: string; encryption?: Encryption | null }[]): MadeName[] {
  return volumes
    .filter(({ encryption = null }) => encryption !== null)
    .map(({ id }) => ({ kind: 'secret', name: id }));
}

/** @param doing What is to be done, for the message. @throws {AgentError} UNSUPPORTED */
export function assertPlain(volumes: readonly Volume[], doing: string, hint: string): void {
  const encrypted = volumes.find(({ encryption }) => encryption !== null);
  if (encrypted === undefined) return;
  throw new AgentError('UNSUPPORTED', `Cannot ${doing}: volume ${encrypted.name} is encrypted`, { hint });
}
