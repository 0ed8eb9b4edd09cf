/** The test image: boots under both firmwares, takes its NoCloud seed, answers on its agent, and powers off cleanly. */
import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import t from 'tap';
import { cannotRun, cannotRunUefi, Guest, IMAGE } from './guest.ts';

/** Bytes: what scripts/build-test-image promises. */
const MAX_IMAGE_BYTES = 60_000_000;

const META_DATA = JSON.stringify({ 'instance-id': 'i-image-1', 'local-hostname': 'from-meta-data' });

const NETWORK_CONFIG = `
version: 2
ethernets:
  nic0:
    match: {name: "eth*"}
    addresses: [10.0.2.77/24]
    routes:
      - to: default
        via: 10.0.2.2
    nameservers: {addresses: [10.0.2.3], search: [image.test]}
`;

const CLOUD_CONFIG = `#cloud-config
hostname: from-cloud-config
ssh_authorized_keys: [ssh-ed25519 AAAAC3Nz someone]
packages: [vim]
runcmd:
  - echo "first command"
  - [sh, -c, "echo second command; exit 3"]
`;

t.test('the image is a qcow2 of at most 60 MB without a backing file', { skip: cannotRun() }, async (t) => {
  t.ok(statSync(IMAGE).size <= MAX_IMAGE_BYTES, `${statSync(IMAGE).size} bytes`);
  const info = JSON.parse(
    execFileSync('qemu-img', ['info', '-U', '--output=json', IMAGE], { encoding: 'utf8' }),
  );
  t.match(info, { format: 'qcow2', 'virtual-size': 64 * 1024 * 1024 });
  t.notOk(info['backing-filename']);
});

t.test(
  'a BIOS guest takes name, keys, addresses and commands from a seed on virtio-blk',
  { skip: cannotRun() },
  async (t) => {
    const files = { 'meta-data': META_DATA, 'network-config': NETWORK_CONFIG, 'user-data': CLOUD_CONFIG };
    await using guest = new Guest({
      firmware: 'bios',
      machine: 'pc',
      nic: 'user',
      video: 'vga',
      seed: { files, bus: 'virtio-blk' },
    });
    const ready = await guest.consoleMatches(/BERTH-GUEST-READY (.*)\r\n/);
    t.equal(ready[1], 'hostname=from-cloud-config instance-id=i-image-1 ip=10.0.2.77');
    t.match(guest.console, "BERTH-GUEST-NOTE user-data: 'packages' is not supported");
    await guest.consoleMatches(/BERTH-GUEST-USER-DATA exit=3\r\n/);
    t.match(guest.console, /first command\r\n[\s\S]*second command\r\n/);
    t.same(await guest.ask('guest-get-host-name'), { 'host-name': 'from-cloud-config' });
    t.match(
      (await guest.run('cat /root/.ssh/authorized_keys /etc/resolv.conf; ip route')).output,
      /someone[\s\S]*image\.test[\s\S]*via 10\.0\.2\.2/,
    );
    await guest.powerOff({ through: 'agent' });
    t.match(guest.console, 'BERTH-GUEST-DOWN how=poweroff');
  },
);

t.test(
  'a UEFI guest gets an address by DHCP and runs a script from a seed on a SCSI CD-ROM',
  { skip: cannotRunUefi() },
  async (t) => {
    const files = { 'meta-data': META_DATA, 'user-data': '#!/bin/sh\necho "script of $(id -u)"\n' };
    await using guest = new Guest({
      firmware: 'uefi',
      machine: 'q35',
      nic: 'user',
      video: 'vga',
      seed: { files, bus: 'virtio-scsi' },
    });
    const ready = await guest.consoleMatches(/BERTH-GUEST-READY (.*)\r\n/);
    t.equal(ready[1], 'hostname=from-meta-data instance-id=i-image-1 ip=10.0.2.15');
    await guest.consoleMatches(/script of 0\r\nBERTH-GUEST-USER-DATA exit=0\r\n/);
    t.match(await guest.ask('guest-network-get-interfaces'), [{ name: 'lo' }, { name: 'eth0' }]);
    t.equal((await guest.run('test -d /sys/firmware/efi && ping -c 1 10.0.2.2')).status, 0);
    await guest.powerOff({ through: 'button' });
  },
);

t.test(
  'a guest without seed, NIC and video boots, and its second partition fills the grown disk',
  { skip: cannotRun() },
  async (t) => {
    await using guest = new Guest({ firmware: 'bios', machine: 'q35', nic: 'none', video: 'none' });
    const ready = await guest.consoleMatches(/BERTH-GUEST-READY (.*)\r\n/);
    t.equal(ready[1], 'hostname=berth-guest instance-id=none ip=none');
    await guest.consoleMatches(/# /);
    const written = await guest.run(
      'mkfs.ext4 -q /dev/vda2 && mount /dev/vda2 /mnt && echo kept >/mnt/f && sha256sum </mnt/f && df -m /mnt',
    );
    t.equal(written.status, 0);
    t.match(written.output, /^[0-9a-f]{64} /);
    t.equal(
      (await guest.run('blockdev --getsize64 /dev/vda2')).output.trim(),
      String((128 - 41) * 1024 * 1024),
    );
    t.same(await guest.ask('guest-fsfreeze-freeze'), 1);
    t.same(await guest.ask('guest-fsfreeze-thaw'), 1);
    await guest.powerOff({ through: 'agent' });
  },
);
