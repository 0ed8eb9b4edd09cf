/** Domain: what the libvirt of Debian 12 does not have, with that of Debian 13. */
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { constants, type Domain } from '../../src/index.ts';
import { failureOf } from '../support/outcome.ts';
import { Pki, pkiMissing } from '../transport/pki.ts';
import { newerDaemonForFile } from './daemon-for-file.ts';
import { defineGuest, GUEST_HOST, guestXml, once } from './domain-guest.ts';

const { VIR_DOMAIN_START_PAUSED: paused } = constants.virDomainCreateFlags;
const { VIR_DOMAIN_GRAPHICS_RELOAD_TYPE_VNC: vnc } = constants.virDomainGraphicsReloadType;

/** QEMU's certificates are in /etc/libvirt, which a private host has for itself. */
const VNC_TLS = { vnc_tls: 1, vnc_tls_x509_cert_dir: '/etc/libvirt' };

const { skip, daemon, connectionTo } = await newerDaemonForFile(t, {
  qemuConf: { ...GUEST_HOST.qemuConf, ...VNC_TLS },
});

/** Shared by the tests of this file. */
const guest = once(async () => {
  const connection = await connectionTo('qemu:///system');
  return defineGuest(t, connection, guestXml({ name: 'nad-newer' }));
});

t.test('a domain starts with the host the next time only', { skip }, async (t) => {
  const domain = await guest();
  t.equal(await domain.getAutostartOnce(), false);
  await domain.setAutostartOnce(true);
  t.equal(await domain.getAutostartOnce(), true);
  t.equal(await domain.getAutostart(), false);
});

t.test('limits that disks share are set, and taken away', { skip }, async (t) => {
  const domain = await guest();
  // libvirt wants the name in both places.
  const limits = { group_name: 'nad-group', total_iops_sec: 50, write_bytes_sec: 2n ** 33n };
  await domain.setThrottleGroup('nad-group', limits);
  t.match(await throttleGroupsOf(domain), '<group_name>nad-group</group_name>');
  t.match(await throttleGroupsOf(domain), '<write_bytes_sec>8589934592</write_bytes_sec>');
  await domain.delThrottleGroup('nad-group');
  t.equal(await throttleGroupsOf(domain), '');
});

async function throttleGroupsOf(domain: Domain): Promise<string> {
  return /<throttlegroups>.*<\/throttlegroups>/s.exec(await domain.getXMLDesc())?.[0] ?? '';
}

t.test('a display reads its certificate again', { skip: skip || pkiMissing() }, async (t) => {
  const etc = join(daemon().host.dir, 'etc');
  const pki = await Pki.create(t);
  const install = async (subject: string) => {
    const { cert, key } = await pki.issue(subject);
    copyFileSync(cert, join(etc, 'server-cert.pem'));
    copyFileSync(key, join(etc, 'server-key.pem'));
  };
  copyFileSync(pki.ca, join(etc, 'ca-cert.pem'));
  await install('nad-first');
  const connection = await connectionTo('qemu:///system');
  const devices = `<graphics type='vnc' socket='${join(daemon().host.dir, 'vnc')}'/>`;
  const domain = await defineGuest(t, connection, guestXml({ name: 'nad-display', devices }));
  await domain.createWithFlags(paused);
  await install('nad-second');
  await domain.graphicsReload(vnc);
  writeFileSync(join(etc, 'server-cert.pem'), 'no certificate');
  t.match(await failureOf(domain.graphicsReload(vnc)), { codeName: 'VIR_ERR_INTERNAL_ERROR' });
});
