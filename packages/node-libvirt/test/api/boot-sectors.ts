/**
 * Guests of a few instructions: what a test needs of a guest, without an operating system to boot.
 *
 * Each is the boot sector of a floppy disk, which the BIOS loads at 0x7c00 and runs in 16-bit mode. Machine 'pc'.
 */

const SECTOR_BYTES = 512;
/** A floppy disk of 1.44 MB. */
const FLOPPY_BYTES = 2880 * SECTOR_BYTES;

/** Goes to sleep (ACPI S3) at once. Its domain needs `<pm><suspend-to-mem enabled='yes'/></pm>`, to be able to. */
export const FALLS_ASLEEP = bootSector(`
  ba 04 06          | mov  dx, 0x604        ; PM1a control register, where SeaBIOS puts it
  b8 00 24          | mov  ax, 0x2400       ; sleep enable, sleep type 1: S3
  ef                | out  dx, ax
  f4                | rest: hlt
  eb fd             | jmp  rest
`);

/** Powers off (ACPI S5) when the power button is pressed, as an operating system does when it has shut down. */
export const OBEYS_POWER_BUTTON = bootSector(`
  fa                | cli
  ba 02 06          | mov  dx, 0x602        ; PM1a enable register: the power button
  b8 00 01          | mov  ax, 0x100
  ef                | out  dx, ax
  ba 00 06          | wait: mov dx, 0x600   ; PM1a status register
  ed                | in   ax, dx
  f6 c4 01          | test ah, 1
  74 f7             | jz   wait
  ba 04 06          | mov  dx, 0x604        ; sleep enable, sleep type 0: off
  b8 00 20          | mov  ax, 0x2000
  ef                | out  dx, ax
  f4                | hlt
`);

/** Says R on the first serial port, then sends back what comes in there. */
export const ECHOES = bootSector(`
  31 d2             | xor  dx, dx           ; serial port 0
  b8 e3 00          | mov  ax, 0xe3         ; 9600 baud, 8 bits, no parity
  cd 14             | int  0x14
  b8 52 01          | mov  ax, 0x152        ; send R
  cd 14             | int  0x14
  b4 02             | wait: mov ah, 2       ; receive
  cd 14             | int  0x14
  f6 c4 80          | test ah, 0x80         ; nothing came for a while
  75 f7             | jnz  wait
  b4 01             | mov  ah, 1            ; send
  cd 14             | int  0x14
  eb f1             | jmp  wait
`);

/**
 * Opens port 1 of the virtio console device, as a guest agent does that has started: libvirt then speaks to the agent.
 *
 * A driver in three messages. The legacy interface's registers begin at the I/O address in BAR 0. Queue 3 carries
 * control messages to the device; it has 32 entries in old QEMU, and 1,024 in new.
 *
 * @see Virtual I/O Device (VIRTIO) Version 1.1, 4.1.4.8 (legacy registers), 5.3.6.2 (control messages)
 */
export const OPENS_PORT_1 = bootSector(`
  31 c0             | xor  ax, ax
  8e d8             | mov  ds, ax
  fc                | cld
  b8 02 b1          | mov  ax, 0xb102       ; PCI BIOS: find the device 1af4:1003
  b9 03 10          | mov  cx, 0x1003
  ba f4 1a          | mov  dx, 0x1af4
  31 f6             | xor  si, si
  cd 1a             | int  0x1a
  72 67             | jc   rest             ; there is none
  b8 0c b1          | mov  ax, 0xb10c       ; its command register: I/O, memory, bus master
  bf 04 00          | mov  di, 4
  b9 07 00          | mov  cx, 7
  cd 1a             | int  0x1a
  b8 09 b1          | mov  ax, 0xb109       ; its BAR 0
  bf 10 00          | mov  di, 0x10
  cd 1a             | int  0x1a
  80 e1 fc          | and  cl, 0xfc
  89 cd             | mov  bp, cx
  8d 56 12          | lea  dx, [bp+18]      ; status: acknowledge, driver
  b0 03             | mov  al, 3
  ee                | out  dx, al
  8d 56 04          | lea  dx, [bp+4]       ; features: several ports
  66 b8 02 00 00 00 | mov  eax, 2
  66 ef             | out  dx, eax
  8d 56 0e          | lea  dx, [bp+14]      ; select queue 3
  b8 03 00          | mov  ax, 3
  ef                | out  dx, ax
  8d 56 0c          | lea  dx, [bp+12]      ; its entries, of which each has a descriptor of 16 bytes
  ed                | in   ax, dx
  c1 e0 04          | shl  ax, 4
  89 c3             | mov  bx, ax
  b8 00 10          | mov  ax, 0x1000       ; lay it out at 0x10000: three descriptors …
  8e c0             | mov  es, ax
  be 7e 7c          | mov  si, descriptors
  31 ff             | xor  di, di
  b9 18 00          | mov  cx, 24
  f3 a5             | rep movsw
  89 df             | mov  di, bx           ; … and, after all, the available ring
  b9 05 00          | mov  cx, 5
  f3 a5             | rep movsw
  8d 56 08          | lea  dx, [bp+8]       ; its page
  66 b8 10 00 00 00 | mov  eax, 0x10
  66 ef             | out  dx, eax
  8d 56 12          | lea  dx, [bp+18]      ; status: and driver OK
  b0 07             | mov  al, 7
  ee                | out  dx, al
  8d 56 10          | lea  dx, [bp+16]      ; notify queue 3
  b8 03 00          | mov  ax, 3
  ef                | out  dx, ax
  f4                | rest: hlt
  eb fd             | jmp  rest
  b8 7c 00 00 00 00 00 00 08 00 00 00 00 00 00 00 | descriptors: address, length, flags, next
  c0 7c 00 00 00 00 00 00 08 00 00 00 00 00 00 00 |
  c8 7c 00 00 00 00 00 00 08 00 00 00 00 00 00 00 |
  00 00 03 00 00 00 01 00 02 00                   | available: flags, 3 entries: 0, 1, 2
  00 00 00 00 00 00 01 00                         | messages: the device is ready,
  01 00 00 00 03 00 01 00                         | port 1 is ready,
  01 00 00 00 06 00 01 00                         | port 1 is open
`);

/** Where COUNTS_IN_MEMORY keeps its count (4 bytes) and the time stamp of its boot (8 bytes). */
export const COUNT_AT = 0x600;
export const BOOTED_AT = 0x610;

/**
 * Counts up 18 times a second, and writes 512 KiB of memory anew each time: at one mebibyte a second its memory cannot be
 * moved elsewhere. The time stamp tells a guest that has moved from one that has booted again.
 */
export const COUNTS_IN_MEMORY = bootSector(`
  31 c0             | xor  ax, ax
  8e d8             | mov  ds, ax
  8e d0             | mov  ss, ax
  bc 00 7c          | mov  sp, 0x7c00
  0f 31             | rdtsc
  66 a3 10 06       | mov  [0x610], eax
  66 89 16 14 06    | mov  [0x614], edx
  fb                | sti
  66 ff 06 00 06    | again: inc dword [0x600]
  66 8b 1e 00 06    | mov  ebx, [0x600]
  b8 00 10          | mov  ax, 0x1000       ; from 0x10000
  8e c0             | segment: mov es, ax
  31 ff             | xor  di, di
  26 66 89 1d       | page: mov es:[di], ebx
  81 c7 00 10       | add  di, 0x1000
  75 f6             | jnz  page
  05 00 10          | add  ax, 0x1000
  3d 00 90          | cmp  ax, 0x9000       ; to 0x90000
  75 ea             | jne  segment
  f4                | hlt                   ; until the clock ticks
  eb da             | jmp  again
`);

/** The image of a floppy disk. Each line of the listing is bytes, a bar, and what they do. */
function bootSector(listing: string): Buffer {
  const image = Buffer.alloc(FLOPPY_BYTES);
  const bytes = listing.split('\n').map((line) => line.split('|')[0]);
  image.write(bytes.join('').replaceAll(' ', ''), 'hex');
  image.writeUInt16BE(0x55aa, SECTOR_BYTES - 2);
  return image;
}
