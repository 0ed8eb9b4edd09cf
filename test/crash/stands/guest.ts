/**
 * The guest of the real stand: a boot sector, which is up a second after its start even without KVM.
 *
 * It says BOOTED on its first serial port, and powers off when its power button is pressed, as an operating
 * system does that has shut down. SeaBIOS puts the registers of ACPI's power management at 0x600.
 */

/** Also the mark that each boot leaves in the console's log. */
export const BOOTED = 'B';
const SECTOR_BYTES = 512;
/** A disk of 1 MiB, most of it empty. */
const DISK_BYTES = 1024 ** 2;

const LISTING = `
  fb       | sti
  ba f8 03 | mov  dx, 0x3f8     ; the first serial port
  b0 42    | mov  al, BOOTED
  ee       | out  dx, al
  ba 02 06 | mov  dx, 0x602     ; PM1a enable register: the power button
  b8 00 01 | mov  ax, 0x100
  ef       | out  dx, ax
  f4       | wait: hlt           ; until the clock ticks, 18 times a second
  ba 00 06 | mov  dx, 0x600     ; PM1a status register
  ed       | in   ax, dx
  f6 c4 01 | test ah, 1
  74 f6    | jz   wait
  ba 04 06 | mov  dx, 0x604     ; sleep enable, sleep type 0: off
  b8 00 20 | mov  ax, 0x2000
  ef       | out  dx, ax
  f4       | hlt
`;

/** A raw image of it. */
export function guestImage(): Buffer {
  const image = Buffer.alloc(DISK_BYTES);
  const bytes = LISTING.split('\n').map((line) => line.split('|')[0]);
  image.write(bytes.join('').replaceAll(' ', ''), 'hex');
  image.writeUInt16BE(0x55aa, SECTOR_BYTES - 2);
  return image;
}
