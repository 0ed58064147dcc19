/** Descriptions of machines that cannot be, and options of openSystem() that do not exist, are refused with their place. */
import { join } from 'node:path';
import t from 'tap';
import { openSystem } from '../lib/index.js';
import { checkError, drive, machine } from './helpers/refused.js';

type Spoil = (m: ReturnType<typeof machine>) => unknown;
const badMachines: [name: string, spoil: Spoil, message: RegExp][] = [
  [
    'duplicate BDFs',
    (m) => m.functions.push(drive('03:00.0', '02:01.0')),
    /functions\[6\]\.bdf: 0000:03:00\.0 is described twice/,
  ],
  [
    'BARs that overlap',
    (m) => {
      Object.assign(m.functions[4]!, { bars: [{ index: 4, size: '1MiB', address: '0x90000000' }] });
      Object.assign(m.functions[5]!, { bars: [{ index: 4, size: '1MiB', address: '0x90000000' }] });
    },
    /functions\[5\]\.bars.*0x90000000.*overlaps BAR 4 of 0000:03:00\.0/,
  ],
  [
    'a client that does not exist',
    (m) => Object.assign(m, { faults: [{ kind: 'remove', controller: 'nvme9', afterBytes: 0 }] }),
    /faults\[0\]\.controller: no controller 'nvme9'/,
  ],
  [
    'a function below a bridge that does not exist',
    (m) => m.functions.push(drive('05:00.0', '02:07.0')),
    /functions\[6\]\.upstream: there is no function 0000:02:07\.0/,
  ],
  [
    'a namespace that is not whole blocks',
    (m) => m.functions.push(drive('05:00.0', '02:01.0', { namespaces: [{ nsid: 1, size: 1000 }] })),
    /namespaces\[0\]\.size: 1000 is not a multiple of the block size 512|bus/,
  ],
  [
    'a fraction of a byte',
    (m) => Object.assign(m.functions[4]!, { nvme: { namespaces: [{ nsid: 1, size: 4096.5 }] } }),
    /functions\[4\]\.nvme\.namespaces\[0\]\.size.*4096\.5/,
  ],
  [
    'a negative size',
    (m) => Object.assign(m.functions[4]!, { nvme: { namespaces: [{ nsid: 1, size: -512 }] } }),
    /functions\[4\]\.nvme\.namespaces\[0\]\.size.*-512/,
  ],
  ['another version', (m) => Object.assign(m, { version: 2 }), /version.*1.*2/],
  ['a misspelt field', (m) => Object.assign(m, { iomu: 'none' }), /iomu/],
];

t.test('machines', async (t) => {
  for (const [name, spoil, message] of badMachines) {
    const bad = machine();
    spoil(bad);
    const error = await openSystem({ machine: bad }).catch((e: unknown) => e);
    checkError(t, error, { code: 'ERR_MACHINE_INVALID', message }, name);
  }
  const folder = t.testdir({
    'no.json': '{ "version": 1,',
    'array.json': '[]',
    'empty.json': '',
    folder: {},
  });
  for (const [spec, code, message] of [
    ['swich', 'ERR_MACHINE_INVALID', /preset 'swich'/],
    [join(folder, 'none.json'), 'ENOENT', /none\.json/],
    [join(folder, 'folder'), 'EISDIR', /folder/],
    [join(folder, 'no.json'), 'ERR_MACHINE_INVALID', /no\.json/],
    [join(folder, 'array.json'), 'ERR_MACHINE_INVALID', /array\.json|machine/],
    [join(folder, 'empty.json'), 'ERR_MACHINE_INVALID', /empty\.json/],
  ] as const) {
    const error = await openSystem({ machine: spec }).catch((e: unknown) => e);
    checkError(t, error, { code, message }, spec);
  }
});

t.test('openSystem', async (t) => {
  for (const [options, code, message] of [
    [{ backend: 'moon' }, 'ERR_INVALID_ARG_VALUE', /backend.*'moon'/],
    [{ backend: 'native', machine: 'switch' }, 'ERR_INVALID_ARG_VALUE', /machine/],
    [{ machine: 5 }, 'ERR_INVALID_ARG_TYPE', /machine.*5/],
    [{ machine: 'switch', root: 7 }, 'ERR_INVALID_ARG_TYPE', /root.*7/],
    [{ machina: 'switch' }, 'ERR_INVALID_ARG_VALUE', /machina/],
    [{ backend: 'native', root: '/no/such/tree' }, 'ERR_BACKEND_UNAVAILABLE', /\/no\/such\/tree/],
  ] as const) {
    const error = await openSystem(options as never).then(
      (system) => system.close().then(() => 'it was opened'),
      (e: unknown) => e,
    );
    checkError(t, error, { code, message }, JSON.stringify(options));
  }
});
