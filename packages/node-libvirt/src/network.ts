/**
 * A network: libvirt's functions on it, those generated (src/api/network.gen.ts) and the one that older daemons take in
 * another way.
 */
import type { RoleCallOptions } from './api/caller.ts';
import { NetworkMethods } from './api/network.gen.ts';

/**
 * The daemon takes command and section in the order in which they are declared. One of before libvirt 7.2 takes each in
 * the other's place. @see VIR_DRV_FEATURE_NETWORK_UPDATE_HAS_CORRECT_ORDER, libvirt_internal.h
 */
const UPDATE_HAS_CORRECT_ORDER = 16;

export class Network extends NetworkMethods {
  /**
   * Changes a part of a network's definition, without a restart where libvirt can. virNetworkUpdate, since libvirt 0.10.2.
   *
   * @param command virNetworkUpdateCommand
   * @param section virNetworkUpdateSection
   * @param parentIndex Which of several parents of the part is meant, from 0; -1 for the only one, or for any.
   * @param xml The part, for example "<host mac='52:54:00:00:00:01' ip='192.0.2.9'/>".
   * @param flags virNetworkUpdateFlags
   */
  async update(
    command: number,
    section: number,
    parentIndex: number,
    xml: string,
    flags = 0,
    options?: RoleCallOptions,
  ): Promise<void> {
    const feature = { feature: UPDATE_HAS_CORRECT_ORDER };
    const { supported } = await this.connection.call('connectSupportsFeature', feature, options);
    const order = supported === 0 ? { command: section, section: command } : { command, section };
    await this.connection.call('networkUpdate', { net: this, ...order, parentIndex, xml, flags }, options);
  }
}
