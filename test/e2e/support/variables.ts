/** Firmware variables of UEFI guests in libvirt's own files of them. */
import { readFileSync, writeFileSync } from 'node:fs';

/** Beyond the variables, in what OVMF keeps in reserve, so that no start of the guest changes it. */
const RESERVE_BYTES = 4096;

/** Of an instance with the machine's own libvirtd. */
export function variablesOf(instance: string): string {
  return `/var/lib/libvirt/qemu/nvram/berth-${instance}_VARS.fd`;
}

export function mark(path: string, text: string): void {
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.fill(text, bytes.length - RESERVE_BYTES));
}

export function isMarked(path: string, text: string): boolean {
  return readFileSync(path).subarray(-RESERVE_BYTES).subarray(0, text.length).toString('latin1') === text;
}
