import t from 'tap';
import { storageContract } from '../contract/storage.ts';
import { fixtureMaker } from './fixtures.ts';

storageContract(t, 'Qcow2Pool', await fixtureMaker(t));
