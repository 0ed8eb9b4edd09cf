/** What TLS has made of keys and certificates is kept as long as they are the same. */
import t from 'tap';
import type { DialTls } from '../../../src/agent/link/credentials.ts';
import { TlsContexts } from '../../../src/agent/link/tls-contexts.ts';
import { newKeys, secureLab } from '../../scheduler/support/secure-lab.ts';

const dial = (url: string, tls: DialTls) => ({
  url,
  token: null,
  tls,
  onAccepted: () => undefined,
  onFailed: () => undefined,
});

t.test('they are read once, and anew when one of them is another', async (t) => {
  const lab = await secureLab(t);
  const { publicKey, key } = newKeys();
  const certOf = (nodeId: string) => lab.authority().issueForNode(nodeId, publicKey).pem;
  const pem = { ca: lab.ca, cert: certOf('3f7d0c52-90c5-4d6a-8a8e-6f3f4c1a2b3c'), key };
  const contexts = new TlsContexts();
  const { secureContext } = contexts.optionsFor(dial('wss://a', pem));
  t.ok(secureContext);
  t.equal(contexts.optionsFor(dial('wss://b', { ...pem })).secureContext, secureContext);
  const other = { ...pem, cert: certOf('4f7d0c52-90c5-4d6a-8a8e-6f3f4c1a2b3c') };
  t.not(contexts.optionsFor(dial('wss://a', other)).secureContext, secureContext);
});

t.test('what is no certificate is refused each time, and keeps nothing of itself', (t) => {
  const contexts = new TlsContexts();
  for (let times = 0; times < 2; times++) {
    t.throws(() => contexts.optionsFor(dial('wss://a', { ca: '', cert: 'none', key: 'none' })), /PEM/);
  }
  t.ok(contexts.optionsFor(dial('wss://a', {})).secureContext);
  t.end();
});

t.test('without TLS nothing is read', (t) => {
  t.same(new TlsContexts().optionsFor(dial('ws://a', { cert: 'none', key: 'none' })), {});
  t.end();
});
