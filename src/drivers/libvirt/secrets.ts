/**
 * Passphrases of encrypted volumes, as libvirt's secrets.
 *
 * libvirt keeps them in its memory alone (`ephemeral`) and tells them to nobody (`private`); a libvirtd that is started
 * anew has none. A guest that runs needs none: QEMU got them at its start, or with the disk. The secret of a volume has
 * the volume's id, by which the definition of each of its files names it, and a usage that no other program gives one.
 *
 * @see formatsecret.html; virSecretDefineXML, libvirt-secret.h
 */
import { type Connection, constants, type Secret } from 'node-libvirt';
import { AgentError } from '../../model/errors.ts';
import type { KeyOfVolume, Keys } from '../contracts/keys.ts';
import { isLibvirtError } from './errors.ts';
import type { CommandContext } from './own-domain.ts';
import { writeXml, type XmlNode, xml } from './xml.ts';

const { VIR_SECRET_USAGE_TYPE_VOLUME: VOLUME } = constants.virSecretUsageType;

export class Secrets {
  readonly #keys: Keys;

  constructor(keys: Keys) {
    this.#keys = keys;
  }

  async give({ connection, limits }: CommandContext, volumes: readonly KeyOfVolume[]): Promise<void> {
    for (const volume of volumes) {
      const { volumeId } = volume;
      const passphrase = await limits.wait(this.#keys.passphrase(volume), 'question');
      const secret = await connection
        .secretDefineXML(secretXml(volumeId), 0, limits.next())
        .catch((error: unknown) => {
          throw explain(error, volumeId);
        });
      await secret.setValue(Buffer.from(passphrase), 0, limits.next());
    }
  }

  async forget({ connection, limits }: CommandContext, volumeId: string): Promise<void> {
    const secret = await find(connection, volumeId, limits.next());
    if (secret === null) return;
    if (!isOurs(secret)) return; // never one of ours: what has its UUID is somebody else's
    await secret.undefine(limits.next()).catch((error: unknown) => {
      if (!isLibvirtError(error, 'VIR_ERR_NO_SECRET')) throw error;
    });
  }

  /** Ids of the volumes that it has one of. */
  async list({ connection, limits }: CommandContext): Promise<string[]> {
    const secrets = await connection.listAllSecrets(0, limits.next());
    return secrets.filter(isOurs).map(({ uuid }) => uuid);
  }
}

/** In the source of a disk, or of what it stands on. */
export function encryptionXml(encryption: KeyOfVolume | null | undefined): XmlNode[] {
  if (encryption === null || encryption === undefined) return [];
  const secret = xml('secret', { type: 'passphrase', uuid: encryption.volumeId });
  return [xml('encryption', { format: 'luks' }, [secret])];
}

function secretXml(volumeId: string): string {
  return writeXml(
    xml('secret', { ephemeral: 'yes', private: 'yes' }, [
      xml('uuid', {}, volumeId),
      xml('description', {}, `Berth: passphrase of volume ${volumeId}`),
      xml('usage', { type: 'volume' }, [xml('volume', {}, usageOf(volumeId))]),
    ]),
  );
}

function isOurs({ uuid, usageType, usageID }: Secret): boolean {
  return usageType === VOLUME && usageID === usageOf(uuid);
}

function usageOf(volumeId: string): string {
  return `berth-${volumeId}`;
}

async function find(
  connection: Connection,
  volumeId: string,
  options: { timeoutMs: number },
): Promise<Secret | null> {
  try {
    return await connection.secretLookupByUUIDString(volumeId, options);
  } catch (error) {
    if (isLibvirtError(error, 'VIR_ERR_NO_SECRET')) return null;
    throw error;
  }
}

/** Of those who may have a secret of this UUID or usage, none is Berth. @see virSecretObjListAdd */
function explain(error: unknown, volumeId: string): unknown {
  if (!/already defined (?:for use with|as)/.test(String((error as Error).message))) return error;
  return new AgentError('HOST_CONFLICT', `libvirt has another secret in the place of volume ${volumeId}`, {
    cause: error,
    hint: 'See whose it is, and remove it: virsh secret-list, virsh secret-undefine.',
  });
}
