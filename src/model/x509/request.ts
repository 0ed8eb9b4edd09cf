/**
 * Certificate requests (PKCS #10): written by a node for the key that never leaves it, read by an authority. Pure.
 *
 * Node's crypto has the keys and signatures, and no word for a request: these are the thirty lines around them.
 *
 * @see RFC 2986
 */
import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { AgentError } from '../errors.ts';
import { bitString, contextItems, integer, readAll, readOne, sequence, TAG } from './der.ts';
import { CURVE, ECDSA_WITH_SHA256, nameOf } from './names.ts';

/** A request for a P-256 key has 250 bytes. */
const REQUEST_BYTES_LIMIT = 4_096;

/** A request for a certificate of this node, signed by its key; DER. */
export function makeRequest(
  nodeId: string,
  { publicKey, privateKey }: { publicKey: KeyObject; privateKey: KeyObject },
) {
  const info = sequence(
    integer(Buffer.from([0])),
    nameOf(nodeId),
    publicKey.export({ format: 'der', type: 'spki' }),
    contextItems(0),
  );
  return sequence(info, ECDSA_WITH_SHA256, bitString(sign('sha256', info, privateKey)));
}

/**
 * The key of a request, which whoever made the request has: it is signed by it.
 *
 * @throws {AgentError} INVALID_ARGUMENT: it is none, of another kind of key, or for another node.
 */
export function readRequest(der: Buffer, nodeId: string): KeyObject {
  if (der.length > REQUEST_BYTES_LIMIT) throw refused(`it has more than ${REQUEST_BYTES_LIMIT} bytes`);
  const [info, algorithm, signature] = readAll(readOne(der, TAG.sequence).content);
  if (info === undefined || algorithm === undefined || signature === undefined)
    throw refused('a part is missing');
  const [, subject, keyInfo] = readAll(info.content);
  if (subject === undefined || keyInfo === undefined) throw refused('a part is missing');
  if (!subject.whole.equals(nameOf(nodeId))) throw refused(`it is not for node ${nodeId}`);
  if (!algorithm.whole.equals(ECDSA_WITH_SHA256)) throw refused('it is not signed by ECDSA with SHA-256');
  const key = readKey(keyInfo.whole);
  const isSigned = verify('sha256', info.whole, key, signature.content.subarray(1));
  if (!isSigned) throw refused('its signature is not by its key');
  return key;
}

function readKey(spki: Buffer): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: spki, format: 'der', type: 'spki' });
  } catch (cause) {
    throw refused('its key cannot be read', cause);
  }
  if (key.asymmetricKeyDetails?.namedCurve !== CURVE) throw refused('its key is not on the curve P-256');
  return key;
}

function refused(reason: string, cause?: unknown): AgentError {
  return new AgentError('INVALID_ARGUMENT', `Not a certificate request that is taken: ${reason}`, {
    ...(cause === undefined ? {} : { cause }),
  });
}
