/** A certificate authority of a test's own, made with openssl. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isInstalled, type TestScope } from './support.ts';

const run = promisify(execFile);

/** Paths of a certificate and its key. */
export interface Issued {
  cert: string;
  key: string;
}

export interface Wanted {
  /** As in openssl's configuration, for example "DNS:localhost,IP:127.0.0.1". */
  names?: string;
  /** Days that it is valid; less than none for one that has expired. @default 2 */
  days?: number;
}

/** Why no certificates can be made here, or false. */
export function pkiMissing(): string | false {
  return isInstalled('openssl') ? false : 'needs openssl';
}

export class Pki {
  readonly dir: string;
  /** The authority's certificate. */
  readonly ca: string;
  #count = 0;

  /** @param subject Name of the authority. The folder goes with the test. */
  static async create(t: TestScope, subject = 'nlt test CA'): Promise<Pki> {
    const dir = mkdtempSync(join(tmpdir(), 'nlt-pki-'));
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const pki = new Pki(dir);
    const extensions = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign'];
    await pki.#openssl(
      ...['req', '-x509', '-days', '2', '-subj', `/CN=${subject}`, '-out', pki.ca],
      ...[...KEY, '-keyout', pki.#at('ca.key'), ...extensions.flatMap((each) => ['-addext', each])],
    );
    return pki;
  }

  private constructor(dir: string) {
    this.dir = dir;
    this.ca = this.#at('ca.pem');
  }

  async issue(subject: string, { names, days = 2 }: Wanted = {}): Promise<Issued> {
    const number = ++this.#count;
    const [cert, key, request, extensions] = ['pem', 'key', 'csr', 'ext'].map((end) =>
      this.#at(`${number}.${end}`),
    ) as [string, string, string, string];
    writeFileSync(extensions, names === undefined ? '' : `subjectAltName=${names}\n`);
    await this.#openssl('req', ...KEY, '-keyout', key, '-subj', `/CN=${subject}`, '-out', request);
    await this.#openssl(
      ...['x509', '-req', '-in', request, '-CA', this.ca, '-CAkey', this.#at('ca.key'), '-CAcreateserial'],
      ...['-days', String(days), '-extfile', extensions, '-out', cert],
    );
    return { cert, key };
  }

  /** The list of revoked certificates, with these in it. @returns Its path. */
  async revoke(...revoked: Issued[]): Promise<string> {
    const conf = this.#at('ca.conf');
    const index = this.#at('index.txt');
    writeFileSync(index, '');
    writeFileSync(
      conf,
      `[ca]\ndefault_ca=own\n[own]\ndatabase=${index}\ndefault_md=sha256\ndefault_crl_days=2\n`,
    );
    const own = ['-config', conf, '-cert', this.ca, '-keyfile', this.#at('ca.key')];
    for (const { cert } of revoked) await this.#openssl('ca', ...own, '-revoke', cert);
    const path = this.#at('crl.pem');
    await this.#openssl('ca', ...own, '-gencrl', '-out', path);
    return path;
  }

  #at(name: string): string {
    return join(this.dir, name);
  }

  async #openssl(...args: string[]): Promise<void> {
    await run('openssl', args);
  }
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
