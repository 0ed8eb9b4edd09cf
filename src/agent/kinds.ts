/**
 * Every kind of operation that this build knows. What is not here can't be asked for, nor taken up after a restart.
 */
import { createBackup } from './backups/create.ts';
import { deleteBackup, pruneBackups, restoreBackup } from './backups/operations.ts';
import { recreateInstance } from './backups/recreate.ts';
import { verifyBackup } from './backups/verify.ts';
import { collectLeaks } from './collector/collect.ts';
import type { Collector } from './collector/collector.ts';
import { importImage, uploadImage } from './images/import.ts';
import { deleteImage, pinImage, verifyImage } from './images/operations.ts';
import { configureInstance } from './instances/configure.ts';
import { createInstance } from './instances/create.ts';
import { deleteInstance } from './instances/delete.ts';
import { rebootInstance, startInstance, stopInstance } from './instances/power.ts';
import { restoreInstance } from './instances/restore.ts';
import { takeOverInstance } from './instances/takeover.ts';
import { createNetwork, deleteNetwork } from './networks/operations.ts';
import type { AnyKind } from './operations/kind.ts';
import type { Services } from './services.ts';
import { attachShare, detachShare } from './shares/attach.ts';
import { configureShare } from './shares/configure.ts';
import { createShare, deleteShare } from './shares/operations.ts';
import { createSnapshot } from './snapshots/create.ts';
import { deleteSnapshot } from './snapshots/delete.ts';
import { mergeSnapshots } from './snapshots/merge.ts';
import { revertSnapshot } from './snapshots/revert.ts';
import { configureVolume } from './volumes/configure.ts';
import { attachVolume, detachVolume } from './volumes/disks.ts';
import { exportVolume } from './volumes/export.ts';
import { flattenVolume } from './volumes/flatten.ts';
import { growVolume } from './volumes/grow.ts';
import { createVolume, deleteVolume } from './volumes/operations.ts';

export function kindsOf(services: Services, collector: Collector, nodeId: string): AnyKind[] {
  return [
    createInstance(services),
    takeOverInstance(services),
    startInstance(services),
    stopInstance(services),
    rebootInstance(services),
    configureInstance(services),
    restoreInstance(services),
    deleteInstance(services),
    importImage(services),
    uploadImage(services),
    verifyImage(services),
    pinImage(services),
    deleteImage(services),
    createVolume(services),
    attachVolume(services),
    detachVolume(services),
    growVolume(services),
    createSnapshot(services),
    revertSnapshot(services),
    deleteSnapshot(services),
    mergeSnapshots(services),
    flattenVolume(services),
    configureVolume(services),
    deleteVolume(services),
    exportVolume(services),
    createShare(services),
    attachShare(services),
    detachShare(services),
    configureShare(services),
    deleteShare(services),
    createBackup(services),
    verifyBackup(services),
    restoreBackup(services),
    recreateInstance(services),
    deleteBackup(services),
    pruneBackups(services),
    createNetwork(services),
    deleteNetwork(services),
    collectLeaks({ services, collector, nodeId }),
  ];
}
