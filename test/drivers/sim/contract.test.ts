/**
 * The simulated host keeps the contracts that the real drivers keep.
 */
import t from 'tap';
import { definitionContract } from '../contract/definitions.ts';
import { hypervisorContract } from '../contract/hypervisor.ts';
import { networkContract } from '../contract/network.ts';
import { objectsContract } from '../contract/objects.ts';
import { storageContract } from '../contract/storage.ts';
import { makeHypervisorBench, makeNetworkRig, makeObjectsFixture, makeStorageFixture } from './rig.ts';

hypervisorContract(t, 'SimHypervisor', makeHypervisorBench);
definitionContract(t, 'SimHypervisor', makeHypervisorBench);
storageContract(t, 'SimStoragePool', makeStorageFixture);
networkContract(t, 'SimNetwork', makeNetworkRig);
objectsContract(t, 'SimObjectStore', makeObjectsFixture);
