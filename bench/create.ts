/**
 * create: from the request on the local socket until the instance runs, beside `virsh define` plus
 * `virsh start` of the same XML, and beside virt-install.
 *
 * Ours makes the overlay, the seed, the port and the journal as well; the peers get their overlay for free.
 */
import { execFile, execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { prepare, RealNode, spec } from '../test/e2e/support/node.ts';
import { type Case, caseOf, takeTurns, timed } from './harness.ts';

const run = promisify(execFile);
const URI = ['-q', '-c', 'qemu:///system'];
const ROUNDS = 15;
/** Of the issue: ours at most this many times virsh. */
const GOAL = 1.25;
const NAME = 'bench';

export async function createBench(): Promise<Case[]> {
  const node = new RealNode({ built: true });
  await node.start();
  try {
    await prepare(node);
    const template = await templateOf(node);
    const [ours, virsh, install] = (await takeTurns(ROUNDS, [
      () => createOurs(node),
      () => createByVirsh(node.folder, template),
      () => createByVirtInstall(node.folder, template),
    ])) as [number[], number[], number[]];
    return [
      caseOf({
        case: 'create to running, beside virsh',
        unit: 'ms',
        ours,
        peer: { name: 'virsh define + start', values: virsh },
        goal: GOAL,
      }),
      caseOf({
        case: 'create to running, beside virt-install',
        unit: 'ms',
        ours,
        peer: { name: 'virt-install', values: install },
        goal: null,
      }),
    ];
  } finally {
    await node.remove();
  }
}

async function createOurs(node: RealNode): Promise<number> {
  const took = await timed(async () => {
    const operation = await node.run('instance.create', { spec: spec(NAME) });
    if (operation.state !== 'succeeded') throw new Error(`create: ${operation.error?.message}`);
  });
  await node.run('instance.delete', { id: NAME });
  return took;
}

interface Template {
  /** The XML that our driver defined. */
  xml: string;
  image: string;
  seed: string;
}

/** Takes the XML of one of our own instances, with a copy of its seed. */
async function templateOf(node: RealNode): Promise<Template> {
  await node.run('instance.create', { spec: spec(NAME) });
  const xml = execFileSync('virsh', [...URI, 'dumpxml', '--inactive', `berth-${NAME}`], { encoding: 'utf8' });
  const image = /<source file='([^']+images[^']+)'/.exec(xml)?.[1] as string;
  const seedInPool = /<source file='([^']+seeds[^']+)'/.exec(xml)?.[1] as string;
  const seed = join(node.folder, 'seed.iso');
  execFileSync('cp', [seedInPool, seed]);
  await node.run('instance.delete', { id: NAME });
  return { xml: xml.replace(seedInPool, seed), image, seed };
}

async function createByVirsh(folder: string, { xml, image }: Template): Promise<number> {
  const disk = await overlay(folder, image);
  const file = join(folder, 'peer.xml');
  const peerXml = xml
    .replaceAll(/<source file='[^']+volumes[^']+'/g, `<source file='${disk}'`)
    .replaceAll(/<log file='[^']+'/g, `<log file='${join(folder, 'peer.log')}'`)
    .replace(/<name>[^<]+/, `<name>${NAME}-peer`)
    .replace(/<uuid>[^<]+/, `<uuid>${randomUUID()}`);
  writeFileSync(file, peerXml);
  const took = await timed(async () => {
    await run('virsh', [...URI, 'define', file]);
    await run('virsh', [...URI, 'start', `${NAME}-peer`]);
  });
  await run('virsh', [...URI, 'destroy', `${NAME}-peer`]);
  await run('virsh', [...URI, 'undefine', '--nvram', `${NAME}-peer`]);
  rmSync(disk);
  return took;
}

async function createByVirtInstall(folder: string, { xml, image, seed }: Template): Promise<number> {
  const disk = await overlay(folder, image);
  const bridge = /<source bridge='([^']+)'/.exec(xml)?.[1];
  const took = await timed(() =>
    run('/usr/bin/virt-install', [
      '--connect=qemu:///system',
      `--name=${NAME}-install`,
      '--import',
      '--transient',
      '--noautoconsole',
      '--virt-type=qemu',
      '--cpu=qemu64,disable=svm',
      '--osinfo=detect=off,require=off',
      '--vcpus=1',
      '--memory=256',
      `--disk=path=${disk},format=qcow2,bus=virtio`,
      `--disk=path=${seed},format=raw,readonly=on,bus=virtio`,
      `--network=bridge=${bridge},model=virtio`,
      '--graphics=none',
    ]),
  );
  await run('virsh', [...URI, 'destroy', `${NAME}-install`]);
  rmSync(disk);
  return took;
}

async function overlay(folder: string, image: string): Promise<string> {
  const disk = join(folder, `${randomUUID()}.qcow2`);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', image, '-F', 'qcow2', disk, '1G']);
  return disk;
}
