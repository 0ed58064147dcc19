/** What `lspci -x…` shows of a machine, and what can be known of the machine by it. */
import t from 'tap';
import { describeMachine, diagnose, MACHINE_PRESETS, openSystem, type System } from '../../lib/index.js';
import { type DumpOptions, hexDump } from '../helpers/lspci-dump.js';
import { sureVerdict, verdictsByPair } from '../helpers/sent-verdicts.js';

/** The verdict of every two drives, in all that was decided, without what only /sys tells. */
function verdicts(system: System): unknown[] {
  const drives = [...new Set(system.controllers.flatMap(({ pdev }) => pdev?.bdf ?? []))].sort();
  return drives.flatMap((provider) =>
    system
      .explain(provider, drives)
      .clients.map(({ asked: _, name: _name, hops, refusal: _r, ...verdict }) => ({
        provider,
        ...verdict,
        hops: hops.map(({ name: _hop, ...hop }) => hop),
      })),
  );
}

async function throughText(
  preset: string,
  options: DumpOptions = {},
): Promise<[before: System, after: System]> {
  const before = await openSystem({ machine: preset });
  return [before, await sent(before, options)];
}

/** The same machine, by what lspci says of it. */
function sent(before: System, options: DumpOptions): Promise<System> {
  const { vendor, family } = before.topology.cpu;
  const cpu = vendor === null ? null : `${vendor}${family === null ? '' : `:${family}`}`;
  const text = Buffer.from(hexDump(before.topology, options));
  return describeMachine(text, {
    kernel: before.topology.kernel!.text,
    ...(cpu === null ? {} : { cpu }),
  });
}

t.test('each preset through the text of lspci -xxxx and back: equal verdicts', async (t) => {
  for (const preset of MACHINE_PRESETS) {
    for (const domains of [false, true]) {
      const [before, after] = await throughText(preset, domains ? { domains } : {});
      t.strictSame(verdicts(after), verdicts(before), `${preset}${domains ? ', with domains' : ''}`);
      t.ok(verdicts(before).length > 0, `${preset} has drives`);
      await Promise.all([before.close(), after.close()]);
    }
  }
});

t.test(
  'with less of configuration space no verdict says more than before, and none says other',
  async (t) => {
    for (const preset of MACHINE_PRESETS) {
      for (const bytes of [64, 256] as const) {
        const [before, after] = await throughText(preset, { bytes });
        const known = new Map(verdictsByPair(before));
        for (const [pair, now] of verdictsByPair(after)) {
          const sure = sureVerdict(now) !== null;
          if (sure) t.equal(now.mapType, known.get(pair)!.mapType, `${preset}, ${bytes} bytes, ${pair}`);
        }
        await Promise.all([before.close(), after.close()]);
      }
    }
  },
);

function proposedByPair(system: System) {
  const drives = system.controllers.flatMap(({ pdev }) => pdev?.bdf ?? []);
  return drives.flatMap((provider) =>
    system
      .explain(provider, drives, { proposed: true })
      .clients.map(
        ({ bdf, proposed }) =>
          [`${bdf} to ${provider}`, proposed!.classes.map(({ mapType }) => mapType)] as const,
      ),
  );
}

t.test('a text that lost a function gives no verdict that hangs on it', async (t) => {
  for (const preset of MACHINE_PRESETS) {
    const whole = await openSystem({ machine: preset });
    const known = new Map(verdictsByPair(whole));
    for (const { bdf } of whole.topology.functions) {
      const after = await sent(whole, { without: [bdf] });
      for (const [pair, now] of verdictsByPair(after)) {
        const sure = sureVerdict(now) !== null;
        if (sure) t.equal(now.mapType, known.get(pair)!.mapType, `${preset} without ${bdf}: ${pair}`);
      }
      const proposed = new Map(proposedByPair(whole));
      for (const [pair, types] of proposedByPair(after)) {
        for (const [i, type] of types.entries()) {
          if (type === 'UNKNOWN') continue;
          t.equal(type, proposed.get(pair)![i], `${preset} without ${bdf}, proposed: ${pair}, class ${i}`);
        }
      }
      await after.close();
    }
    await whole.close();
  }
});

t.test('virtual functions do not make a bus a root bus', async (t) => {
  const whole = await openSystem({ machine: 'switch' });
  const { functions } = whole.topology;
  const bridges = functions.filter(({ portType }) => portType !== 'endpoint' && portType !== 'conventional');
  const text = hexDump(whole.topology, { without: bridges.map(({ bdf }) => bdf) });
  // As with ARI: devfn 8 of the drives' own buses.
  const virtual = text
    .split('\n\n')
    .filter((part) => /^0[34]:00\.0/m.test(part))
    .map((part) => part.replace(/^(0[34]):00\.0/m, '$1:01.0'));
  t.equal(virtual.length, 2);
  const after = await describeMachine(Buffer.from([text, ...virtual].join('\n\n')), {
    cpu: 'intel:6',
    kernel: '6.12',
  });
  for (const [pair, { mapType, rule }] of verdictsByPair(after)) {
    const [client, provider] = pair.split(' to ');
    if (client !== provider) t.equal(mapType, 'UNKNOWN', `${pair}: ${rule}`);
  }
  t.throws(() => after.snapshot(), { code: 'ERR_MACHINE_INVALID' });
  await Promise.all([whole.close(), after.close()]);
});

t.test('what lspci does not show is said, and asked for', async (t) => {
  const before = await openSystem({ machine: 'switch' });
  const after = await describeMachine(Buffer.from(hexDump(before.topology)));
  t.match(after.evidence, {
    recognised: [/^lspci -xxxx, \d+ functions$/],
    notKnown: [
      { what: 'the processor', why: /cpu/ },
      { what: 'the kernel', why: /kernel/ },
      { what: /peer memory/ },
      { what: /IOMMU/ },
    ],
  });
  t.equal(after.topology.peerMemory, 'unknown');
  t.match(after.explainAll()[0]?.notes, [{ kind: 'p2pmem-unknown' }]);
  t.match(
    after.controllers.map(({ name, cmb }) => [name, cmb]),
    before.controllers.map(({ pdev }) => [pdev!.bdf, null]),
    'drives whose names are not known go by their addresses',
  );
  await Promise.all([before.close(), after.close()]);
});

t.test('quoted, with carriage returns, cut in the middle', async (t) => {
  const before = await openSystem({ machine: 'acs' });
  const text = hexDump(before.topology);
  const whole = await describeMachine(Buffer.from(text));
  const quoted = `On Monday somebody wrote:\r\n${text.replaceAll(/^/gm, '> ').replaceAll('\n', '\r\n')}`;
  const mailed = await describeMachine(Buffer.from(quoted));
  t.strictSame(verdicts(mailed), verdicts(whole));
  // The bytes of the ports' ACS got lost: whether they redirect is not known.
  const holes = await describeMachine(Buffer.from(text.replaceAll(/^140: .*\n/gm, '')));
  t.ok(holes.explainAll().some(({ clients }) => clients.some(({ acsKnown }) => !acsKnown)));
  for (const system of [before, whole, mailed, holes]) await system.close();
});

t.test('what says nothing of a machine is refused', async (t) => {
  for (const text of ['', 'hello', '\0'.repeat(4096), '00:01.0 is where I live']) {
    await t.rejects(
      describeMachine(Buffer.from(text)),
      { code: 'ERR_INVALID_ARG_VALUE' },
      JSON.stringify(text.slice(0, 30)),
    );
  }
  await t.rejects(describeMachine('/no/such/file'), { code: 'ENOENT' });
  await t.rejects(describeMachine([]), { code: 'ERR_INVALID_ARG_VALUE' });
  await t.rejects(describeMachine(5 as never), { code: 'ERR_INVALID_ARG_TYPE' });
  await t.rejects(describeMachine(Buffer.from(''), { cpu: 'a toaster' }), { code: 'ERR_INVALID_ARG_VALUE' });
});

t.test('a function of which neither class nor bytes were sent is not known, and that is said', async (t) => {
  const before = await openSystem({ machine: 'switch' });
  const after = await describeMachine(
    Buffer.from(`${hexDump(before.topology)}\n77:00.0 A thing: something\n`),
  );
  t.match(after.evidence?.notKnown, [{ what: 'the kind of 0000:77:00.0', why: /first 64 bytes were/ }]);
  t.equal(after.topology.find('77:00.0')?.class, 0);
  await Promise.all([before.close(), after.close()]);
});

t.test('a function of which only the address is left is not known, and so it may be a drive', async (t) => {
  const machine = await openSystem({ machine: 'switch' });
  const whole = hexDump(machine.topology);
  await machine.close();
  for (const [cut, verdict] of [
    [
      /^04:00\.0 [\s\S]*?(?=\n\n|$(?![\s\S]))/m,
      /only 0000:03:00\.0 is known as an NVMe drive.*0000:04:00\.0/,
    ],
    [
      /^0[34]:00\.0 [\s\S]*?(?=\n\n|$(?![\s\S]))/gm,
      /no NVMe drive is known.*0000:03:00\.0 and 0000:04:00\.0/,
    ],
  ] as const) {
    const text = whole.replace(cut, (part) =>
      part
        .split('\n')
        .slice(0, 3)
        .join('\n')
        .replace(/ 0108: /, ' [...]: '),
    );
    t.not(text, whole);
    const { findings, verdict: said } = await diagnose({
      from: Buffer.from(text),
      cpu: 'intel:6',
      kernel: '6.12',
    });
    t.match(
      findings.find(({ check }) => check === 'drives'),
      { level: 'unknown', fact: verdict },
    );
    t.equal(said, 'unknown');
  }
});
