/** Where certificates are looked for. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { LibvirtUsageError } from '../../src/errors.ts';
import { loadTls, type TlsMaterial, type TlsPlaces } from '../../src/transport/tls-files.ts';
import { failureOf } from '../support/outcome.ts';
import { Pki, pkiMissing } from './pki.ts';

interface Lab {
  places: TlsPlaces & { userDir: string };
  /** Puts a file into its place. */
  put(from: string, ...to: string[]): string;
  pki: Pki;
}

async function lab(t: Test): Promise<Lab> {
  const dir = mkdtempSync(join(tmpdir(), 'nlt-places-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const places = { pkiPath: null, userDir: join(dir, 'home'), systemDir: join(dir, 'pki') };
  const put = (from: string, ...to: string[]) => {
    const path = join(dir, ...to);
    mkdirSync(dirname(path), { recursive: true });
    copyFileSync(from, path);
    return path;
  };
  return { places, put, pki: await Pki.create(t) };
}

function originsOf({ ca, crl, identity }: TlsMaterial): (string | undefined)[] {
  return [ca?.origin, crl?.origin, identity?.cert.origin, identity?.key.origin];
}

const skip = pkiMissing();

t.test('the system’s places are looked at, and the CA alone must be there', { skip }, async (t) => {
  const { places, put, pki } = await lab(t);
  const missing = await failureOf(loadTls({}, places, true));
  t.ok(missing instanceof LibvirtUsageError);
  t.match(missing.message, `cannot read the CA certificate ${join(places.systemDir, 'CA', 'cacert.pem')}`);
  t.match(missing.cause, { code: 'ENOENT' });
  const ca = put(pki.ca, 'pki', 'CA', 'cacert.pem');
  t.same(originsOf(await loadTls({}, places, true)), [ca, undefined, undefined, undefined]);
  const issued = await pki.issue('nlt-client');
  const cert = put(issued.cert, 'pki', 'libvirt', 'clientcert.pem');
  t.same(originsOf(await loadTls({}, places, true))[2], undefined, 'a certificate without its key is none');
  const key = put(issued.key, 'pki', 'libvirt', 'private', 'clientkey.pem');
  const crl = put(await pki.revoke(), 'pki', 'CA', 'cacrl.pem');
  t.same(originsOf(await loadTls({}, places, true)), [ca, crl, cert, key]);
});

t.test('a user’s files come before the system’s, the certificate only with its key', { skip }, async (t) => {
  const { places, put, pki } = await lab(t);
  const issued = await pki.issue('nlt-client');
  put(pki.ca, 'pki', 'CA', 'cacert.pem');
  const system = [
    put(issued.cert, 'pki', 'libvirt', 'clientcert.pem'),
    put(issued.key, 'pki', 'libvirt', 'private', 'clientkey.pem'),
  ];
  const ca = put(pki.ca, 'home', 'cacert.pem');
  const cert = put(issued.cert, 'home', 'clientcert.pem');
  t.same(originsOf(await loadTls({}, places, true)), [ca, undefined, ...system]);
  const key = put(issued.key, 'home', 'clientkey.pem');
  t.same(originsOf(await loadTls({}, places, true)), [ca, undefined, cert, key]);
  t.same(originsOf(await loadTls({}, { ...places, userDir: null }, true)).slice(2), system);
});

t.test(
  'what the caller gives replaces the places, and a list of revoked ones adds to them',
  { skip },
  async (t) => {
    const { places, put, pki } = await lab(t);
    const issued = await pki.issue('nlt-client');
    put(issued.cert, 'pki', 'libvirt', 'clientcert.pem');
    put(issued.key, 'pki', 'libvirt', 'private', 'clientkey.pem');
    t.same(originsOf(await loadTls({ ca: pki.ca }, places, true)), [pki.ca, undefined, undefined, undefined]);
    const ca = put(pki.ca, 'pki', 'CA', 'cacert.pem');
    const crl = await pki.revoke();
    t.same(originsOf(await loadTls({ crl }, places, true)).slice(0, 2), [ca, crl]);
  },
);

t.test('a server that is not checked needs no CA', { skip }, async (t) => {
  const { places } = await lab(t);
  t.same(originsOf(await loadTls({}, places, false)), [undefined, undefined, undefined, undefined]);
});

t.test('a renewed file is read anew, and an empty one is refused', { skip }, async (t) => {
  const { places, put, pki } = await lab(t);
  const path = put(pki.ca, 'pki', 'CA', 'cacert.pem');
  const before = await loadTls({}, places, true);
  put((await Pki.create(t)).ca, 'pki', 'CA', 'cacert.pem');
  t.not((await loadTls({}, places, true)).ca?.text, before.ca?.text);
  writeFileSync(path, '');
  t.match(await failureOf(loadTls({}, places, true)), { message: `${path} holds no certificate in PEM` });
});
