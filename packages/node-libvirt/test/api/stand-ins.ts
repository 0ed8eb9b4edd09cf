/**
 * Stand-ins for hardware and for the programs that rule it, on a private host: real libvirt finds them where it would
 * find the kernel's files and the machine's programs, and nothing of what it does there reaches the machine.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { PrivateHost } from '../support/private-host.ts';

/** Path to content of the files of a folder; content null makes a folder. */
export type Files = Readonly<Record<string, string | null>>;

/**
 * Lays a folder of files over one of the private host's.
 *
 * @returns The folder as the test sees it: what libvirt writes is found there.
 * @throws {Error} It cannot be laid over: what libvirt does next would reach the machine.
 */
export async function layOver(host: PrivateHost, path: string, files: Files): Promise<string> {
  const folder = join(host.dir, 'over', path);
  mkdirSync(folder, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    const file = join(folder, name);
    mkdirSync(content === null ? file : dirname(file), { recursive: true });
    if (content !== null) writeFileSync(file, content, { mode: 0o755 });
  }
  await mustRun(host, 'mount', '--bind', folder, path);
  return folder;
}

/** What libvirt asks of a host that can give a PCI device to a guest. @see virPCIDeviceBindToStub, virpci.c */
export async function standInForPci(host: PrivateHost, address: string): Promise<string> {
  await layOver(host, '/sys/kernel/iommu_groups', { '0': null });
  await mustRun(host, 'sh', '-euc', DEV_WITH_VFIO);
  return layOver(host, '/sys/bus/pci', {
    drivers_probe: '',
    'drivers/vfio-pci': null,
    [`devices/${address}/vendor`]: '0x1af4\n',
    [`devices/${address}/device`]: '0x1000\n',
    [`devices/${address}/config`]: '\0'.repeat(64),
    [`devices/${address}/driver_override`]: '',
  });
}

/**
 * A mdevctl for one parent device and one mediated device. It keeps the definition in a file, and its calls in another.
 *
 * @returns The file of its calls.
 */
export async function standInForMdevctl(host: PrivateHost, parentAddress: string): Promise<string> {
  const calls = join(host.dir, 'mdevctl.calls');
  const mdevctl = MDEVCTL.replaceAll('@DIR@', host.dir).replaceAll('@PARENT@', parentAddress);
  await layOver(host, '/usr/local/sbin', { mdevctl });
  return calls;
}

/** A /dev that the machine does not share. */
const DEV_WITH_VFIO = `
  mount -t tmpfs -o mode=755 tmpfs /mnt
  cp -a /dev/null /dev/zero /dev/random /dev/urandom /dev/fd /dev/stdin /mnt
  mkdir /mnt/vfio
  touch /mnt/vfio/vfio
  mount --bind /mnt /dev`;

/** What `mdevctl list --dumpjson` prints is a list of one object: parent to a list of { uuid: definition }. */
const MDEVCTL = `#!/bin/sh
dir=@DIR@
echo "$*" >> $dir/mdevctl.calls
verb=$1
uuid=$(echo "$*" | sed -n 's/.*--uuid[= ]\\([0-9a-f-]*\\).*/\\1/p')
case "$*" in
  *--help*) ;;
  list*) if [ -e $dir/mdev ]; then echo "[{\\"@PARENT@\\":[{\\"$(cat $dir/mdev.uuid)\\":$(cat $dir/mdev)}]}]"; else echo '[]'; fi ;;
  define*) cat > $dir/mdev; echo "$uuid" > $dir/mdev.uuid ;;
  *--jsonfile*) cat > $dir/mdev ;;
  modify*--auto) sed -i s/manual/auto/ $dir/mdev ;;
  modify*--manual) sed -i s/auto/manual/ $dir/mdev ;;
  undefine*) rm $dir/mdev ;;
  start*) ;;
  *) echo "mdevctl $verb: not known to the stand-in" >&2; exit 1 ;;
esac
`;

async function mustRun(host: PrivateHost, ...argv: string[]): Promise<void> {
  const { code, stderr } = await host.run(...argv);
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`);
}
