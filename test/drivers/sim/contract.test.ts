/**
 * The simulated host keeps the contracts that the real drivers keep.
 */
import t from 'tap';
import { definitionContract } from '../contract/definitions.ts';
import { hostContract } from '../contract/host.ts';
import { hypervisorContract } from '../contract/hypervisor.ts';
import { networkContract } from '../contract/network.ts';
import { objectsContract } from '../contract/objects.ts';
import { sharingContract } from '../contract/storage-sharing.ts';
import { storageContract } from '../contract/storage.ts';
import {
  makeHypervisorBench,
  makeNetworkRig,
  makeObjectsFixture,
  makeSharingFixture,
  makeStorageFixture,
  steppedHost,
} from './rig.ts';

hypervisorContract(t, 'SimHypervisor', makeHypervisorBench);
definitionContract(t, 'SimHypervisor', makeHypervisorBench);
storageContract(t, 'SimStoragePool', makeStorageFixture);
sharingContract(t, 'SimStoragePool', makeSharingFixture);
networkContract(t, 'SimNetwork', makeNetworkRig);
objectsContract(t, 'SimObjectStore', makeObjectsFixture);
hostContract(t, 'SimHostFacts', async () => steppedHost());
const odd = {
  cpus: 7,
  numaNodes: 3,
  memoryMib: 1000,
  offlineCpus: '2,6',
  hugepages: [{ sizeKib: 2048, total: 9, free: 1 }],
};
hostContract(t, 'SimHostFacts with three nodes that nothing divides by', async () => steppedHost(odd));
