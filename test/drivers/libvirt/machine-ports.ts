/**
 * What a guest's kernel would do to the devices of its machine, done through QEMU's monitor: by I/O ports, for which no
 * kernel has to run in the guest.
 */
import { type Lab, until } from './lab.ts';

/** Port and value by which a kernel says that it panicked. @see docs/specs/pvpanic.txt, QEMU */
const PANIC_PORT = 0x505;
const PANICKED = 1;
/** Address and data port of PCI's configuration space. @see PCI Local Bus Specification, 3.2.2.3.2 */
const CONFIG_ADDRESS_PORT = 0xcf8;
const CONFIG_DATA_PORT = 0xcfc;
/** The i6300esb, by its vendor and device, as `info pci` prints it. */
const WATCHDOG_PLACE = /Bus +(\d+), device +(\d+), function (\d+):\s+[^\n]*8086:25ab/;
/** Registers of the i6300esb, and the bits for ticks of 1 µs and for "on". @see hw/watchdog/wdt_i6300esb.c, QEMU */
const CONFIG_REGISTER = 0x60;
const TICKS_OF_1_US = 1 << 2;
const LOCK_REGISTER = 0x68;
const ENABLE = 1 << 1;

export async function panic(lab: Lab, id: string): Promise<void> {
  await lab.monitor(id, `o /b 0x${PANIC_PORT.toString(16)} ${PANICKED}`);
}

/**
 * Switches the watchdog on with its shortest time, 2 s in two stages, in which nothing feeds it.
 *
 * The firmware uses the same two ports at the same time, so it is looked whether the device has understood.
 */
export async function fireWatchdog(lab: Lab, id: string): Promise<void> {
  await until('the watchdog to be on', async () => {
    const slot = slotOf(await lab.monitor(id, 'info pci'));
    if (slot === null) return false;
    await select(lab, id, slot | CONFIG_REGISTER);
    await lab.monitor(id, `o /h 0x${CONFIG_DATA_PORT.toString(16)} ${TICKS_OF_1_US}`);
    await select(lab, id, slot | LOCK_REGISTER);
    await lab.monitor(id, `o /b 0x${CONFIG_DATA_PORT.toString(16)} ${ENABLE}`);
    return (await lab.monitor(id, `i /b 0x${CONFIG_DATA_PORT.toString(16)}`)).includes('= 0x02');
  });
}

/** Points the data port at a register. @param place Bus, device, function and register. */
async function select(lab: Lab, id: string, place: number): Promise<void> {
  const address = (0x80000000 | place) >>> 0;
  await lab.monitor(id, `o /w 0x${CONFIG_ADDRESS_PORT.toString(16)} 0x${address.toString(16)}`);
}

/** Bus, device and function, where the address has them; null before the firmware has found the device. */
function slotOf(info: string): number | null {
  const place = WATCHDOG_PLACE.exec(info);
  if (place === null) return null;
  const [, bus, device, fn] = place.map(Number) as [number, number, number, number];
  return bus === 0 ? null : (bus << 16) | (device << 11) | (fn << 8);
}
