import t from 'tap';
import { parseMachine } from '../../../lib/machine/machine.js';
import { machineToQemu, qemuMachine, whyNotBootable } from '../machine.js';
import { machineByName } from '../machines.js';

t.test('a switch becomes root port, upstream and downstream ports and drives', async (t) => {
  const { args, images, drives, guestBdf } = qemuMachine(machineByName('switch'), '/w');
  const devices = args.filter((_, i) => args[i - 1] === '-device');
  t.same(
    devices.map((d) => d.split(',')[0]),
    [
      'pcie-root-port',
      'x3130-upstream',
      'xio3130-downstream',
      'nvme',
      'nvme-ns',
      'xio3130-downstream',
      'nvme',
      'nvme-ns',
    ],
  );
  t.match(devices[3], /^nvme,id=f03_00_0,bus=f02_00_0,addr=0x00\.0,serial=[^,]+,mdts=8,cmb_size_mb=16$/);
  t.same(images, [
    { file: '/w/nvme0n1.raw', size: 2 ** 30 },
    { file: '/w/nvme1n1.raw', size: 2 ** 30 },
  ]);
  t.same(
    drives.map((d) => [d.name, d.guestBdf]),
    [
      ['nvme0', '0000:03:00.0'],
      ['nvme1', '0000:04:00.0'],
    ],
  );
  t.equal(guestBdf.get('0000:02:01.0'), '0000:02:01.0');
  t.same(machineToQemu(machineByName('switch'), '/w'), args);
});

t.test('bus numbers are the firmware’s, whatever the description’s were', async (t) => {
  const machine = parseMachine({
    version: 1,
    name: 'far',
    hostBridges: [{ bus: 0 }],
    functions: [
      { bdf: '00:01.0', type: 'root-port', upstream: null, vendor: 1, device: 1 },
      { bdf: '00:02.0', type: 'root-port', upstream: null, vendor: 1, device: 1 },
      {
        bdf: '41:00.0',
        type: 'endpoint',
        upstream: '00:01.0',
        vendor: 1,
        device: 1,
        nvme: { namespaces: [] },
      },
      {
        bdf: '81:00.0',
        type: 'endpoint',
        upstream: '00:02.0',
        vendor: 1,
        device: 1,
        nvme: { namespaces: [] },
      },
    ],
  });
  const { guestBdf } = qemuMachine(machine, '/w');
  t.equal(guestBdf.get('0000:41:00.0'), '0000:01:00.0');
  t.equal(guestBdf.get('0000:81:00.0'), '0000:02:00.0');
});

t.test('a subsystem: its first controller brings the namespaces, shared by all', async (t) => {
  const { args, drives } = qemuMachine(machineByName('multipath'), '/w');
  const devices = args.filter((_, i) => args[i - 1] === '-device');
  t.equal(devices[0], 'nvme-subsys,id=nvme-subsys2,nqn=nvme-subsys2');
  const controllers = devices.filter((one) => one.startsWith('nvme,'));
  t.same(
    controllers.map((one) => /subsys=(\S+)/.exec(one)?.[1] ?? null),
    [null, null, 'nvme-subsys2', 'nvme-subsys2'],
  );
  t.equal(drives[2]!.serial, drives[3]!.serial, 'one serial number');
  t.same(
    drives.map(({ namespaces }) => namespaces.length),
    [1, 1, 1, 0],
  );
  t.same(
    devices.filter((one) => one.startsWith('nvme-ns,')).map((one) => /shared=(\w+)/.exec(one)![1]),
    ['off', 'off', 'on'],
  );
});

t.test('zones, and metadata beside and within the blocks', async (t) => {
  const { args, images } = qemuMachine(machineByName('kinds'), '/w');
  const namespaces = args.filter((one) => one.startsWith('nvme-ns,'));
  t.strictSame(
    namespaces.map((one) => one.replace(/.*physical_block_size=512/, '').replace(/,shared=off$/, '')),
    ['', '', ',zoned=on,zoned.zone_size=16777216,zoned.zone_capacity=16777216', ',ms=8,mset=1', ',ms=8,pi=1'],
  );
  t.ok(images[3]!.size > 0, 'a namespace of size 0 has blocks, of which the kernel shows none');
});

t.test('what descriptions have no words for', async (t) => {
  const { args } = qemuMachine(machineByName('two-mib-cmb'), '/w', { 'legacy-cmb': 'on' });
  const drives = args.filter((one) => one.startsWith('nvme,'));
  t.equal(drives.filter((one) => one.includes('legacy-cmb=on')).length, 2);
});

t.test('what QEMU cannot be is said', async (t) => {
  const odd = (cmb: object) =>
    parseMachine({
      version: 1,
      name: 'odd',
      hostBridges: [{ bus: 0 }],
      functions: [
        { bdf: '00:01.0', type: 'root-port', upstream: null, vendor: 1, device: 1 },
        {
          bdf: '01:00.0',
          type: 'endpoint',
          upstream: '00:01.0',
          vendor: 1,
          device: 1,
          nvme: { cmb, namespaces: [] },
        },
      ],
    });
  t.match(whyNotBootable(odd({ size: '16MiB', wds: false })), /data both ways/);
  t.match(whyNotBootable(odd({ size: 8192 })), /power of two of MiB, not 8192 bytes/);
  t.match(whyNotBootable(odd({ size: '3MiB' })), /power of two of MiB, not 3145728 bytes/);
  t.throws(() => machineToQemu(odd({ size: 8192 })), /machine odd cannot be booted/);
  t.equal(whyNotBootable(machineByName('root-ports')), null);
});
