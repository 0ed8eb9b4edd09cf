/** One seed for all properties of the repository; the library's own tests have it, and stand alone. */
export { default } from '../packages/node-libvirt/test/support/property.ts';
