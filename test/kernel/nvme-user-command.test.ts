import t from 'tap';
import { NVME_SC_DATA_XFER_ERROR } from '../../lib/backend/nvme-spec.js';
import { P2pdmaError } from '../../lib/base/errors.js';
import { openEmulator } from '../../lib/emulator/boot.js';
import { nvmeSubmitUserCmd } from '../../lib/kernel/nvme-ioctl.js';
import { assertSendable, metadataOf } from '../../lib/kernel/nvme-user-command.js';
import { presets } from '../../lib/machine/presets.js';
import { io } from '../helpers/emulated-io.js';

const plain = { blockSize: 512, metadataBytes: 0 };
const withMetadata = { blockSize: 512, metadataBytes: 8 };
const unknown = { blockSize: 512, metadataBytes: null };

function codeOf(run: () => void): string | null {
  try {
    run();
    return null;
  } catch (error) {
    if (error instanceof P2pdmaError) return error.code;
    throw error;
  }
}

t.test('a command goes out only with memory for all that it moves', async (t) => {
  const code = (command: Parameters<typeof assertSendable>[0], bytes = 0, format = plain) =>
    codeOf(() =>
      assertSendable(bytes > 0 ? { ...command, data: new Uint8Array(bytes) } : command, '/x', format),
    );
  t.equal(code({ opcode: 2, cdw12: 7 }, 4096), null);
  t.equal(
    code({ opcode: 2, cdw12: 8 }, 4096),
    'ERR_INVALID_ARG_VALUE',
    'nine blocks do not fit: PRP2 would be 0',
  );
  t.equal(code({ opcode: 2, cdw12: 0 }, 4096, { ...plain, blockSize: 4096 }), null);
  t.equal(code({ opcode: 1 }), 'ERR_INVALID_ARG_VALUE', 'a write of no memory');
  t.equal(code({ opcode: 0x81 }), 'ERR_INVALID_ARG_VALUE', 'a vendor’s, which says that it moves data');
  t.equal(code({ opcode: 0x81 }, 4), null);
  t.equal(code({ opcode: 0 }), null, 'flush');
  t.equal(code({ opcode: 8 }), null, 'write zeroes');
  t.equal(code({ opcode: 9, cdw10: 1 }, 16), 'ERR_INVALID_ARG_VALUE', 'two ranges take 32 bytes');
  t.equal(code({ opcode: 0x79, cdw13: 4 }), null, 'a zone is reset without data');
  t.equal(code({ opcode: 6, admin: true, cdw10: 1 }), 'ERR_INVALID_ARG_VALUE', 'identify');
  t.equal(code({ opcode: 2, admin: true, cdw10: (127 << 16) | 2 }, 512), null, 'a log page of 128 dwords');
  t.equal(code({ opcode: 2, admin: true, cdw10: (128 << 16) | 2 }, 512), 'ERR_INVALID_ARG_VALUE');
  t.equal(code({ opcode: 0x0a, admin: true, cdw10: 7 }), null, 'most features have no data');
});

t.test('blocks with metadata are moved by no command of ours', async (t) => {
  const data = new Uint8Array(4096);
  for (const format of [withMetadata, unknown]) {
    for (const opcode of [1, 2, 5, 0x7d, 0x81]) {
      t.equal(
        codeOf(() => assertSendable({ opcode, data }, '/x', format)),
        'EOPNOTSUPP',
        `opcode ${opcode}`,
      );
    }
    for (const opcode of [0, 8, 9, 0x0d, 0x0e, 0x7a]) {
      t.equal(
        codeOf(() => assertSendable({ opcode, data }, '/x', format)),
        null,
        `opcode ${opcode} moves no blocks`,
      );
    }
    t.equal(
      codeOf(() => assertSendable({ opcode: 6, admin: true, data }, '/x', format)),
      null,
    );
  }
  const identify = new DataView(new ArrayBuffer(4096));
  identify.setUint8(26, 0x21 | 0x10);
  identify.setUint16(128 + 4 * 0x11, 64, true);
  t.equal(metadataOf(identify), 64, 'bits 6:5 of FLBAS are the high ones of the format');
});

t.test('an emulated namespace with metadata', async (t) => {
  const { switch: preset } = presets;
  const functions = preset.functions.map((f) =>
    f.nvme === null
      ? f
      : {
          ...f,
          nvme: { ...f.nvme, namespaces: f.nvme.namespaces.map((ns) => ({ ...ns, metadata: 8 as const })) },
        },
  );
  const backend = await openEmulator({ machine: { ...preset, functions } });
  const target = await backend.openTarget('nvme1n1', { write: true });
  const sent = Buffer.alloc(8192, 'kept');
  t.equal(
    (await io(target, 'write', 0, sent)).result,
    8192,
    'the kernel lets the drive make its own protection',
  );
  const got = Buffer.alloc(8192);
  t.equal((await io(target, 'read', 0, got)).result, 8192);
  t.same(got, sent);

  const command = { opcode: 2, cdw12: 7, data: Buffer.alloc(4096, 1) };
  await t.rejects(target.passthrough(command), { code: 'EOPNOTSUPP', message: /8 bytes of metadata/ });
  await target.passthrough({ opcode: 0 });

  const [, drive] = backend.running.drives;
  const { ctrl } = drive!.driver;
  const raw = await nvmeSubmitUserCmd(backend.running.mm, ctrl, ctrl.namespaces[0]!, command);
  t.match(raw, { errno: 0, status: NVME_SC_DATA_XFER_ERROR }, 'a read without MPTR faults');
  t.same(command.data, Buffer.alloc(4096, 1));
  await target.close();
  t.match(await backend.close(), { iovas: 0, pages: 0, slots: 0, requests: 0 });
});

t.test('a pointer left at 0 reaches nothing', async (t) => {
  const backend = await openEmulator({ machine: presets.switch });
  const { ctrl } = backend.running.drives[0]!.driver;
  const none = await nvmeSubmitUserCmd(backend.running.mm, ctrl, ctrl.namespaces[0]!, {
    opcode: 2,
    cdw12: 0,
  });
  t.match(none, { errno: 0, status: NVME_SC_DATA_XFER_ERROR });
  t.match(await backend.close(), { iovas: 0, pages: 0, slots: 0, requests: 0 });
});
