import t from 'tap';
import * as nvme from '../../lib/backend/nvme-spec.js';
import { EIO, ENODATA, ENOSPC, EOPNOTSUPP, EREMOTEIO } from '../../lib/base/errno.js';
import { lower32, NvmeCommand, nvmeIsWrite, putSqe, upper32 } from '../../lib/kernel/nvme-command.js';
import { type NvmeRequest, nvmeDecideDisposition, nvmeErrorStatus } from '../../lib/kernel/nvme-core.js';

t.test('a status becomes the errno that the kernel gives', async (t) => {
  const rows: [status: number, errno: number][] = [
    [nvme.NVME_SC_SUCCESS, 0],
    [nvme.NVME_SC_INVALID_FIELD, -EOPNOTSUPP],
    [nvme.NVME_SC_CMB_INVALID_USE, -EIO],
    [nvme.NVME_SC_DATA_XFER_ERROR, -EIO],
    [nvme.NVME_SC_LBA_RANGE, -EREMOTEIO],
    [nvme.NVME_SC_CAP_EXCEEDED, -ENOSPC],
    [nvme.NVME_SC_READ_ERROR, -ENODATA],
    [nvme.NVME_SC_WRITE_FAULT, -ENODATA],
    [nvme.NVME_SC_HOST_ABORTED_CMD, -EIO],
    [0x7ff, -EIO],
  ];
  for (const [status, errno] of rows) {
    t.equal(nvmeErrorStatus(status), errno, nvme.nvmeStatusText(status));
    t.equal(nvmeErrorStatus(status | nvme.NVME_STATUS_DNR), errno, 'DNR changes nothing');
  }
});

t.test(
  'a failed request is tried again, unless the drive says no, it was passthrough, or it was tried enough',
  async (t) => {
    const request = (fields: Partial<NvmeRequest>) =>
      ({ async: null, retries: 0, status: 0, errno: 0, ...fields }) as NvmeRequest;
    const command = { cmd: new NvmeCommand(), bio: null, timeout: 0, end() {} };
    t.equal(nvmeDecideDisposition(request({}), 5), 'COMPLETE');
    t.equal(nvmeDecideDisposition(request({ status: 4 }), 5), 'RETRY');
    t.equal(nvmeDecideDisposition(request({ status: 4, retries: 5 }), 5), 'COMPLETE');
    t.equal(nvmeDecideDisposition(request({ status: 4 | nvme.NVME_STATUS_DNR }), 5), 'COMPLETE');
    t.equal(nvmeDecideDisposition(request({ status: 4, async: command }), 5), 'COMPLETE');
  },
);

t.test('a submission queue entry, byte by byte', async (t) => {
  const cmd = new NvmeCommand();
  Object.assign(cmd, {
    opcode: nvme.nvmeCmdWrite,
    nsid: 0xfffffffe,
    dptr: 0x000f_1234_5678_9abc,
    prp2: 0x0001_0000_0000_1000,
    cdw10: 10,
    cdw11: 11,
    cdw12: 12,
    cdw13: 13,
    cdw14: 14,
    cdw15: 0xffffffff,
  });
  const sq = new DataView(new ArrayBuffer(128));
  putSqe(sq, 64, 0xabcd, cmd);
  const hex = Buffer.from(sq.buffer).toString('hex');
  t.equal(hex.slice(0, 128), '00'.repeat(64), 'the entry before is left alone');
  t.equal(
    hex.slice(128),
    [
      '0100cdab feffffff 00000000 00000000 00000000 00000000',
      'bc9a7856 34120f00 00100000 00000100',
      '0a000000 0b000000 0c000000 0d000000 0e000000 ffffffff',
    ]
      .join('')
      .replaceAll(' ', ''),
  );
  cmd.flags = nvme.NVME_CMD_SGL_METABUF;
  cmd.sglLength = 0x1000;
  cmd.sglType = nvme.NVME_SGL_FMT_LAST_SEG_DESC << 4;
  putSqe(sq, 0, 1, cmd);
  t.equal(Buffer.from(sq.buffer, 24, 16).toString('hex'), 'bc9a785634120f000010000000000030');
});

t.test('halves of large numbers', async (t) => {
  t.equal(lower32(0x1f_ffff_ffff_fffe), 0xfffffffe);
  t.equal(upper32(0x1f_ffff_ffff_fffe), 0x1fffff);
  t.ok(nvmeIsWrite(nvme.nvmeCmdWrite) && !nvmeIsWrite(nvme.nvmeCmdRead));
});
