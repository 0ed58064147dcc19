/** The words of lspci: what lspci itself makes of known bytes gives the verdicts that the bytes give. */
import t from 'tap';
import { describeMachine, MACHINE_PRESETS, openSystem, type System, type Topology } from '../../lib/index.js';
import { hexDump, lspci, noLspci } from '../helpers/lspci-dump.js';
import { sureVerdict, verdictLines, verdictsByPair } from '../helpers/sent-verdicts.js';

function read(of: Topology, ...texts: readonly string[]): Promise<System> {
  const { vendor, family } = of.cpu;
  return describeMachine(
    texts.map((text) => Buffer.from(text)),
    { kernel: of.kernel!.text, ...(vendor === null ? {} : { cpu: `${vendor}:${family}` }) },
  );
}

t.test('each preset through the words of lspci and back: equal verdicts', { skip: noLspci }, async (t) => {
  for (const machine of MACHINE_PRESETS) {
    const before = await openSystem({ machine });
    const bytes = await read(before.topology, hexDump(before.topology));
    for (const options of [['-vvvnn'], ['-vvn'], ['-D', '-vvvnn'], ['-nn', '-vvvxxxx']]) {
      const words = lspci(hexDump(before.topology), ...options);
      const after = await read(before.topology, words);
      t.strictSame(verdictLines(after), verdictLines(bytes), `${machine}, ${options.join(' ')}`);
      const placed = (system: System) =>
        system.topology.functions.map(({ bdf, vendor, device, class: of, portType, acs, upstream }) => ({
          ...{ bdf, vendor, device, class: of, portType, acs },
          upstream: upstream?.bdf,
        }));
      t.strictSame(placed(after), placed(bytes), `${machine}, ${options.join(' ')}: the same functions`);
      await after.close();
    }
    await Promise.all([before.close(), bytes.close()]);
  }
});

t.test('less of lspci: less is known, and nothing else', { skip: noLspci }, async (t) => {
  for (const machine of ['nested-switches', 'multi-function', 'root-ports-listed', 'zen', 'acs-listed']) {
    const before = await openSystem({ machine });
    const known = new Map(verdictsByPair(before).map(([pair, verdict]) => [pair, sureVerdict(verdict)]));
    const whole = hexDump(before.topology);
    const notRoot = hexDump(before.topology, { bytes: 64 });
    const texts = [
      ...['-vv', '-vnn', '-v', '-nn', '-n', '-mm'].map((options) => [lspci(whole, options)]),
      ...['-vvvnn', '-v'].map((options) => [lspci(notRoot, options)]),
      [lspci(whole), lspci(whole, '-t')],
      [lspci(whole, '-nn'), lspci(whole, '-tv')],
      [lspci(notRoot, '-vv'), lspci(whole, '-tvnn')],
    ];
    for (const sent of texts) {
      const after = await read(before.topology, ...sent).catch((error: unknown) => {
        t.match(error, { code: 'ERR_INVALID_ARG_VALUE' });
        return null;
      });
      for (const [pair, verdict] of after === null ? [] : verdictsByPair(after)) {
        const sure = sureVerdict(verdict);
        if (sure !== null) t.equal(sure, known.get(pair), `${machine}: ${pair}`);
      }
      await after?.close();
    }
    await before.close();
  }
});

const HOST =
  '00:00.0 Host bridge [0600]: Some bridge [8086:2020]\n\tControl: I/O- Mem-\n\tStatus: Cap- 66MHz-\n\n';
const PORT_HEAD =
  '00:01.0 PCI bridge [0604]: Some port [8086:2030] (prog-if 00 [Normal decode])\n' +
  '\tControl: I/O+ Mem+\n\tStatus: Cap+ 66MHz-\n\tNUMA node: 1\n\tIOMMU group: 7\n' +
  '\tBus: primary=00, secondary=01, subordinate=01, sec-latency=0\n';
const EXPRESS =
  '\tCapabilities: [40] Express (v2) Root Port (Slot+), MSI 00\n\t\tDevCap:\tMaxPayload 256 bytes\n\t\tDevSta:\tCorrErr-\n';
const AER = '\tCapabilities: [100 v1] Advanced Error Reporting\n\t\tAERCap:\tFirst Error Pointer: 00\n';
const ACS =
  '\tCapabilities: [140 v1] Access Control Services\n' +
  '\t\tACSCap:\tSrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans+\n' +
  '\t\tACSCtl:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir- UpstreamFwd- EgressCtrl- DirectTrans+\n';
const DRIVER = '\tKernel driver in use: pcieport\n';
const DRIVE =
  '\n01:00.0 Non-Volatile memory controller [0108]: A drive [144d:a80a] (prog-if 02 [NVM Express])\n' +
  '\tControl: I/O- Mem+\n\tStatus: Cap+ 66MHz-\n' +
  '\tRegion 0: Memory at fe000000 (64-bit, non-prefetchable) [size=16K]\n' +
  '\tRegion 2: Memory at 800000000 (64-bit, prefetchable) [virtual] [size=1G]\n' +
  '\tRegion 4: Memory at <unassigned> (32-bit, non-prefetchable) [size=4K]\n' +
  `${EXPRESS.replace('Root Port (Slot+), MSI 00', 'Endpoint, IntMsgNum 0, FlitMode-')}${AER}` +
  '\tCapabilities: [160 v1] Single Root I/O Virtualization (SR-IOV)\n' +
  '\t\tRegion 0: Memory at 0000383fe1000000 (64-bit, non-prefetchable) [size=16K]\n' +
  '\tKernel driver in use: nvme\n\tKernel modules: nvme\n';

async function functionsOf(text: string) {
  const system = await describeMachine(Buffer.from(text), { cpu: 'intel:6', kernel: '6.12.30' });
  const { functions } = system.topology;
  await system.close();
  return functions;
}

t.test('facts beside the configuration space: regions, NUMA nodes, IOMMU groups', async (t) => {
  const [host, port, drive] = await functionsOf(HOST + PORT_HEAD + EXPRESS + AER + ACS + DRIVER + DRIVE);
  t.match(host, { class: 0x060000, vendor: 0x8086, device: 0x2020, portType: 'conventional', acs: 'none' });
  t.match(port, { portType: 'root-port', acs: 0x45, numaNode: 1, iommuGroup: 7 });
  t.match(drive, {
    ...{ class: 0x010802, vendor: 0x144d, device: 0xa80a, portType: 'endpoint', acs: 'none' },
    ...{ numaNode: null, iommuGroup: null },
    upstream: { bdf: '0000:00:01.0' },
    bars: [
      { index: 0, kind: 'memory', cpuAddress: 0xfe000000, size: 16384, prefetchable: false },
      null,
      { index: 2, cpuAddress: 0x800000000, size: 2 ** 30, prefetchable: true },
      null,
      null,
      null,
    ],
  });
});

t.test('ACS is known only where no line can be missing', async (t) => {
  for (const [name, capabilities, acs, portType] of [
    ['set', EXPRESS + AER + ACS + DRIVER, 0x45, 'root-port'],
    ['no such capability', EXPRESS + AER + DRIVER, 'none', 'root-port'],
    [
      'a flag is cut off',
      EXPRESS + AER + ACS.replace(' DirectTrans+\n\t\tACSCtl', '\n\t\tACSCtl') + DRIVER,
      0x45,
      'root-port',
    ],
    [
      'the last flag is cut off',
      EXPRESS + AER + ACS.replace(/ DirectTrans\+\n$/, '\n') + DRIVER,
      'unknown',
      'root-port',
    ],
    [
      'no control register',
      EXPRESS + AER + ACS.replace(/\t\tACSCtl.*\n/, '') + DRIVER,
      'unknown',
      'root-port',
    ],
    ['no heading of the capability', EXPRESS + AER + ACS.replace(/^.*\n/, '') + DRIVER, 0x45, 'root-port'],
    [
      'its name is cut off',
      `${EXPRESS}${AER}\tCapabilities: [140 v1] Acces\n${DRIVER}`,
      'unknown',
      'root-port',
    ],
    [
      'the rest of a capability is missing',
      EXPRESS + AER.replace(/\t\tAERCap.*\n/, '') + DRIVER,
      'unknown',
      'root-port',
    ],
    ['the last lines are missing', EXPRESS + AER, 'unknown', 'root-port'],
    ['the list lost PCI Express', AER + DRIVER, 'unknown', 'root-port'],
    ['something was left out', `${EXPRESS}\t[...]\n${AER}${DRIVER}`, 'unknown', 'root-port'],
    ['snipped', `${EXPRESS}<snip>\n${AER}${DRIVER}`, 'unknown', 'root-port'],
    [
      'lines of another function',
      EXPRESS + AER + DRIVER + PORT_HEAD.replace(/^.*\n/, '') + ACS,
      'unknown',
      'root-port',
    ],
    ['two such capabilities', EXPRESS + AER + ACS + ACS + DRIVER, 'unknown', 'root-port'],
    ['access denied', `\tCapabilities: <access denied>\n${DRIVER}`, 'unknown', 'root-port'],
    [
      'the chain loops',
      `${EXPRESS}${AER}\tCapabilities: [100 v1] <chain looped>\n${DRIVER}`,
      'unknown',
      'root-port',
    ],
  ] as const) {
    const functions = await functionsOf(HOST + PORT_HEAD + capabilities + DRIVE);
    t.match(functions[1], { acs, portType }, name);
  }
});

t.test('a function without PCI Express is known by its whole list only', async (t) => {
  const other = DRIVER.replace('pcieport', 'shpchp');
  const power = '\tCapabilities: [60] Power Management version 3\n\t\tStatus: D0 NoSoftRst+\n';
  for (const [name, capabilities, acs] of [
    ['a list without it', power + other, 'none'],
    ['the driver needs it', power + DRIVER, 'unknown'],
    ['its lines are left', `${power}\t\tLnkSta:\tSpeed 8GT/s\n${other}`, 'unknown'],
    ['nothing of the list', other, 'unknown'],
  ] as const) {
    const functions = await functionsOf(HOST + PORT_HEAD + capabilities + DRIVE);
    t.equal(functions[1]?.acs, acs, name);
  }
});

t.test(
  'a remark that begins with an address takes no lines from the function that it stands in',
  async (t) => {
    for (const remark of ['01:00.0 here: it is slow', '01:00.0 is slow', '00:01.0 see below: this one']) {
      const text = `${HOST}${PORT_HEAD}${EXPRESS}${AER}${remark}\n${ACS}${DRIVER}${DRIVE}`;
      const [, port, drive] = await functionsOf(text);
      t.match(port, { bdf: '0000:00:01.0', acs: 'unknown' }, remark);
      t.match(drive, { bdf: '0000:01:00.0', acs: 'none' }, remark);
    }
  },
);

t.test('what two texts say differently is not known', async (t) => {
  const one = HOST + PORT_HEAD + EXPRESS + AER + ACS + DRIVER;
  const other = one
    .replace('ReqRedir+ CmpltRedir- ', 'ReqRedir- CmpltRedir- ')
    .replace('8086:2020', '8086:2021');
  const [host, port] = await functionsOf(`${one}\n${other}${DRIVE}`);
  t.match(host, { vendor: 0x8086, device: 0xffff });
  t.equal(port?.acs, 'unknown');
});

t.test('a host bridge without IDs is not looked up', async (t) => {
  const text = (HOST + PORT_HEAD + EXPRESS + AER + ACS + DRIVER + DRIVE).replace(' [8086:2020]', '');
  const ask = async (cpu: string) => {
    const system = await describeMachine(
      Buffer.from(
        text.concat(
          text
            .slice(text.indexOf('00:01.0'))
            .replaceAll('01:00', '02:00')
            .replaceAll('00:01.0', '00:02.0')
            .replaceAll('=01', '=02'),
        ),
      ),
      {
        cpu,
        kernel: '6.12.30',
      },
    );
    const [, verdict] = verdictsByPair(system).find(([pair]) => pair === '0000:02:00.0 to 0000:01:00.0')!;
    await system.close();
    return verdict;
  };
  t.match(await ask('intel:6'), {
    mapType: 'UNKNOWN',
    rule: 'host-bridge-list-unknown',
    reason:
      /host bridge 0000:00 \(IDs unknown\) is on the kernel’s .* its vendor and device ID were not read/,
    remedy: /lspci -nn/,
  });
  t.match(await ask('amd:0x19'), { mapType: 'THRU_HOST_BRIDGE', rule: 'cpu-zen' });
});
