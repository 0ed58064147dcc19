/**
 * Send NVMe commands yourself: an Identify, and a Read that puts its data into the drive's own CMB.
 *
 *     node dist/examples/passthrough.js
 */
import { openSystem } from 'p2pdma';

const IDENTIFY = 0x06;
const READ = 0x02;
const IDENTIFY_CONTROLLER = 1;

const system = await openSystem({ machine: 'switch' });
const drive = await system.target('nvme0n1', { write: true });

const page = system.allocate(null, 4096);
const identify = await drive.passthrough({
  admin: true,
  opcode: IDENTIFY,
  cdw10: IDENTIFY_CONTROLLER,
  data: page.buffer,
});
console.log(`identify: status ${identify.status}, model '${page.buffer.toString('latin1', 24, 64).trim()}'`);

page.buffer.fill('p2pdma ');
await drive.write(page.buffer, 8 * 512);

const cmb = system.allocate('nvme0', 4096);
const read = await drive.passthrough({
  opcode: READ,
  nsid: 1,
  cdw10: 8,
  cdw11: 0,
  cdw12: 4096 / 512 - 1,
  data: cmb.buffer,
});
console.log(
  `read: status ${read.status}, '${cmb.buffer.toString('latin1', 0, 13)}' in the CMB, ${JSON.stringify(read.path)}`,
);

console.log('left over:', JSON.stringify(await system.close()));
