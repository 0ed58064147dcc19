import t from 'tap';
import { parsePciConfig } from '../../../lib/native/sysfs/pci-config.js';
import { configSpace, type TreeFunction } from '../../fixtures/sysfs-tree.js';
import { fc } from '../../helpers/random.js';

const port: TreeFunction = {
  bdf: '0000:00:01.0',
  upstream: null,
  type: 'root-port',
  vendor: 0x8086,
  device: 0x2030,
};
const below: TreeFunction = { bdf: '0000:01:00.0', upstream: port.bdf, type: 'endpoint' };

t.test('a port: type, buses, ACS from its extended capabilities', async (t) => {
  for (const acs of [0, 0x04, 0x1d, 0x3f]) {
    t.match(parsePciConfig(configSpace({ ...port, acs }, [port, below])), {
      vendor: 0x8086,
      device: 0x2030,
      class: 0x060400,
      portType: 'root-port',
      acs,
      buses: { secondary: 1, subordinate: 1 },
    });
  }
  t.equal(parsePciConfig(configSpace(port, [port, below]))?.acs, 'none');
});

t.test('each PCI Express type of the register has its port type', async (t) => {
  const types = Array.from({ length: 16 }, (_, type) => {
    const config = configSpace(port, []);
    config[0x62] = (type << 4) | 2;
    return parsePciConfig(config)?.portType;
  });
  t.same(types, [
    ...['endpoint', 'endpoint', 'unknown', 'unknown', 'root-port', 'upstream-port', 'downstream-port'],
    ...['pcie-to-pci-bridge', 'unknown', 'root-complex-endpoint', 'root-complex-endpoint'],
    ...['unknown', 'unknown', 'unknown', 'unknown', 'unknown'],
  ]);
});

t.test('what was not readable is unknown, not clear', async (t) => {
  const whole = configSpace({ ...port, acs: 0x1d }, [port, below]);
  t.match(parsePciConfig(whole.subarray(0, 64)), { portType: null, acs: 'unknown', buses: { secondary: 1 } });
  t.match(parsePciConfig(whole.subarray(0, 256)), { portType: 'root-port', acs: 'unknown' });
  t.match(parsePciConfig(whole.subarray(0, 0x14c)), { acs: 'unknown' }, 'cut inside the ACS capability');
  t.match(parsePciConfig(whole.subarray(0, 0x150)), { acs: 0x1d });
});

t.test('a kernel that reaches no extended space sees no ACS', async (t) => {
  const config = configSpace({ ...port, acs: 0x1d }, [port]).subarray(0, 256);
  t.equal(parsePciConfig(config, 256)?.acs, 'none');
  t.equal(parsePciConfig(config.subarray(0, 64), 256)?.acs, 'none');
});

t.test('a conventional function has no ACS, even of 64 bytes', async (t) => {
  const config = configSpace({ ...port, type: 'conventional' }, []);
  t.match(parsePciConfig(config.subarray(0, 64)), { portType: 'conventional', acs: 'none' });
});

t.test('a function that is powered down says nothing', async (t) => {
  t.equal(parsePciConfig(Buffer.alloc(4096, 0xff)), null);
  t.equal(parsePciConfig(Buffer.alloc(63)), null);
});

t.test('capability lists that loop end', async (t) => {
  const config = configSpace({ ...port, acs: 1 }, []);
  config.set([0x01, 0x40], 0x40);
  config.writeUInt32LE((0x100 << 20) | 0x10001, 0x100);
  t.match(parsePciConfig(config), { portType: 'conventional', acs: 'none' });
});

t.test('any bytes: an answer, never an exception', async () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 700 }),
      fc.uint8Array({ minLength: 4, maxLength: 64 }),
      (bytes, seed) => {
        parsePciConfig(Buffer.from(bytes));
        const config = configSpace({ ...port, acs: 1 }, [port, below]);
        seed.forEach((byte, index) => {
          config[(index * 37 + seed[0]! * 16) % config.length] = byte;
        });
        parsePciConfig(config);
      },
    ),
  );
});

t.test('a virtual function has no IDs of its own, and the rest of its configuration space', async (t) => {
  const config = configSpace(below, [port, below]);
  config.fill(0xff, 0, 4);
  t.match(parsePciConfig(config), { vendor: null, device: null, portType: 'endpoint', acs: 'none' });
  t.equal(parsePciConfig(Buffer.alloc(256, 0xff)), null, 'all ones: gone');
});

t.test('zeros that fill up what was not readable are not read', async (t) => {
  const whole = configSpace({ ...port, acs: 0x1d }, [port, below]);
  const padded = Buffer.concat([whole.subarray(0, 64), Buffer.alloc(4032)]);
  t.match(parsePciConfig(padded), { length: 64, portType: null, acs: 'unknown' });
  t.match(parsePciConfig(whole), { length: 4096, acs: 0x1d });
});
