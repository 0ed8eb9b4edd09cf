import t from 'tap';
import { objectsContract } from '../contract/objects.ts';
import { startS3Server } from './server/s3-server.ts';

const server = await startS3Server(t);
let fixtures = 0;

objectsContract(t, 'S3Store', async () => {
  const settings = { prefix: `run-${++fixtures}/deep/` };
  return {
    store: await server.store(settings),
    reopen: () => server.store(settings),
    receivedBytes: server.receivedBytes,
  };
});
