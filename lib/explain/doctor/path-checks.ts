/** Checks of the paths between the memory and the drives: ACS, host bridges, and the resulting verdict for each pair. */
import { deviceId, isNvme, rootBusName } from '../../backend/names.js';
import type { PciDev } from '../../backend/topology.js';
import { bootParameter, tooLong } from '../../base/boot-line.js';
import { hexNumber, list } from '../../base/words.js';
import { type DistanceRule, type HostBridgeVerdict, hostBridgeVerdict } from '../../kernel/pci-p2pdma.js';
import type { ClientVerdict, Explanation } from '../explain.js';
import type { MachineFacts } from './facts.js';
import { type Finding, finding } from './finding.js';

interface Pair {
  readonly provider: string;
  readonly client: ClientVerdict;
}

/** Pairs of a provider and a different drive. If any provider is published, only published providers are considered. */
function pairsOf({ machine, pairs }: MachineFacts): Pair[] {
  const all = pairs();
  const published = all.filter(({ provider }) => machine.topology.find(provider)?.p2pmem?.published === true);
  // Memory that a GPU does not publish cannot form a pair.
  const lendable = all.filter(({ provider }) => {
    const dev = machine.topology.find(provider)!;
    return isNvme(dev) || dev.p2pmem?.published === true;
  });
  return (published.length > 0 ? published : lendable).flatMap(({ provider, clients }: Explanation) =>
    clients.filter(({ bdf }) => bdf !== provider).map((client) => ({ provider, client })),
  );
}

export function checkPaths(facts: MachineFacts): Finding[] {
  const pairs = pairsOf(facts);
  if (pairs.length === 0) return [];
  return [...checkAcs(facts, pairs), ...checkHostBridges(facts, pairs), ...checkPairs(facts, pairs)];
}

// --- ACS ---

const ISOLATION =
  'This costs isolation: the devices below these functions can then reach each other’s memory without the IOMMU in between; ' +
  'do not do it where they belong to different guests';

function checkAcs({ machine, kernel, kind }: MachineFacts, pairs: readonly Pair[]): Finding[] {
  const found: Finding[] = [];
  const redirecting = functionsOf(
    machine.topology.functions,
    pairs.flatMap(({ client }) => (client.kernelParameter === null ? [] : client.acs)),
  );
  const hidden = pairs.filter(({ client }) => !client.acsKnown);
  if (hidden.length > 0) {
    found.push(
      finding(
        'acs',
        'warning',
        `ACS settings could not be read on the way of ${counted(hidden.length, 'pair')}: only root sees them`,
        kind === 'captured' ? 'Capture it as root: /sys, or what `sudo lspci -xxxx` prints.' : 'Ask as root.',
        kind === 'captured' ? [] : ['sudo env "PATH=$PATH" npx p2pdma doctor'],
      ),
    );
  }
  const comma = /disable_acs_redir=[^\s",]*,([0-9a-f:.]+)/i.exec(kernel?.commandLine ?? '');
  if (comma !== null) {
    found.push(
      finding(
        'acs',
        'warning',
        `the boot line has a comma in disable_acs_redir: the kernel wants semicolons, and takes ‘${comma[1]}’ for another pci= option`,
        'Write it with semicolons, in quotes.',
      ),
    );
  }
  if (redirecting.length > 0) {
    const given = kernel?.disableAcsRedir ?? null;
    const again = given === null ? '' : `, although the boot line has disable_acs_redir=${given}`;
    const boot = bootParameter(redirecting, {
      all: machine.topology.functions,
      taken: kernel?.commandLine?.length ?? 0,
    });
    const fact = `ACS sends peer traffic up to the host bridge in ${list(redirecting.map(({ bdf }) => bdf))}${again}`;
    if (boot === null)
      found.push(finding('acs', 'warning', fact, `${tooLong(redirecting.length)} ${ISOLATION}.`));
    else {
      const { parameter, byId } = boot;
      const kinds = byId
        ? ' It names all functions of a vendor and device, also those that are added later.'
        : '';
      found.push(
        finding(
          'acs',
          'warning',
          fact,
          `Boot with "${parameter}" (semicolons, in quotes).${kinds} ${ISOLATION}. With GRUB, then reboot:`,
          [
            `echo 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX \\"${parameter}\\""' | sudo tee -a /etc/default/grub`,
            'sudo update-grub   # Fedora and its like: sudo grub2-mkconfig -o /boot/grub2/grub.cfg',
          ],
        ),
      );
    }
  }
  return found.length > 0
    ? found
    : [finding('acs', 'ok', 'no function below a common bridge sends peer traffic up')];
}

function functionsOf(all: readonly PciDev[], bdfs: readonly string[]): PciDev[] {
  const wanted = new Set(bdfs);
  return all.filter(({ bdf }) => wanted.has(bdf));
}

// --- host bridges ---

const NEEDS_THEM: ReadonlySet<ClientVerdict['rule']> = new Set<DistanceRule>([
  'host-bridge-list-unknown',
  'host-bridge-not-listed',
  'host-bridge-unidentified',
  'host-bridges-differ',
  'cpu-unknown',
]);

function checkHostBridges({ machine, kind }: MachineFacts, pairs: readonly Pair[]): Finding[] {
  const { cpu, functions } = machine.topology;
  const involved = functionsOf(
    functions,
    pairs.flatMap(({ provider, client }) => [provider, client.bdf]),
  );
  const refused = pairs.filter(({ client }) => NEEDS_THEM.has(client.rule));
  const needed = refused.some(({ client }) => client.kernelParameter === null);
  const byVerdict = new Map<string, { names: string[]; verdict: HostBridgeVerdict }>();
  for (const bridge of new Set(involved.map(({ hostBridge }) => hostBridge))) {
    const verdict = hostBridgeVerdict(machine.topology, bridge);
    const { device } = verdict;
    const id = device === null ? '' : ` (${deviceId(device)})`;
    const group = byVerdict.get(verdict.why) ?? { names: [], verdict };
    group.names.push(`${rootBusName(bridge)}${id}`);
    byVerdict.set(verdict.why, group);
  }
  const maker = `${cpu.vendor ?? 'CPU unknown'}${cpu.family === null ? '' : ` family ${hexNumber(cpu.family)}`}`;
  return [...byVerdict.values()].map(({ names, verdict }) => {
    const what = `${list(names, 4)}, ${maker}: ${verdict.why}`;
    if (verdict.passes === 'unknown' && needed) {
      const remedy = verdict.rule === 'cpu-unknown' ? cpuRemedy(kind) : null;
      return finding('host-bridge', 'warning', what, remedy);
    }
    if (verdict.passes !== 'no' && verdict.passes !== 'unknown') return finding('host-bridge', 'ok', what);
    return needed
      ? finding(
          'host-bridge',
          'warning',
          what,
          'Put the drives below one PCIe switch; or use a CPU that passes peer traffic on: AMD Zen, or an Intel Xeon on the kernel’s host bridge allow-list.',
        )
      : finding(
          'host-bridge',
          'ok',
          `${what}; ${refused.length > 0 ? 'only ACS sends traffic there' : 'no pair needs it'}`,
        );
  });
}

function unknownRemedy({ rule, remedy }: ClientVerdict, kind: MachineFacts['kind']): string | null {
  return rule === 'cpu-unknown' ? cpuRemedy(kind) : remedy;
}

function cpuRemedy(kind: MachineFacts['kind']): string {
  return kind === 'captured'
    ? 'Capture /proc/cpuinfo too: it decides.'
    : 'Look where /proc/cpuinfo can be read: it decides.';
}

// --- pairs ---

function checkPairs({ machine, kind }: MachineFacts, pairs: readonly Pair[]): Finding[] {
  if (machine.topology.iommu === 'unsupported') {
    return [
      finding(
        'pairs',
        'problem',
        `${counted(pairs.length, 'pair')} refused, whatever the way: see IOMMU above`,
      ),
    ];
  }
  const names = new Map(machine.controllers.map(({ name, pdev }) => [pdev?.bdf, name] as const));
  const named = (bdf: string): string => names.get(bdf) ?? bdf;
  const groups = new Map<string, Pair[]>();
  for (const pair of pairs) {
    const { mapType, rule, kernelParameter, refusal } = pair.client;
    const key = refusal === null ? `${mapType} ${rule} ${kernelParameter !== null}` : 'refusal';
    const group = groups.get(key) ?? [];
    group.push(pair);
    groups.set(key, group);
  }
  const hopeless = pairs.every(
    ({ client: { mapType, refusal } }) => mapType === 'NOT_SUPPORTED' || refusal !== null,
  );
  return [...groups.values()].map((group) => {
    const { client } = group[0]!;
    const which = list(
      group.map(({ provider, client: { bdf } }) => `${named(provider)} ◀─ ${named(bdf)}`),
      6,
    );
    const many = counted(group.length, 'pair');
    if (client.refusal !== null) return refusedByDisks(group, `${many} refused: ${which}`, hopeless);
    if (client.mapType === 'NOT_SUPPORTED') {
      const redirected = client.kernelParameter !== null;
      return finding(
        'pairs',
        hopeless ? 'problem' : 'warning',
        `${many} refused (${client.rule}): ${which}`,
        redirected
          ? 'See ACS above; or copy through host memory.'
          : (client.remedy ?? 'Copy through host memory.'),
      );
    }
    if (client.mapType === 'UNKNOWN') {
      return finding(
        'pairs',
        'warning',
        `${many} not known (${client.rule}): ${which}`,
        unknownRemedy(client, kind),
      );
    }
    if (client.rule === 'acs-unknown') {
      return finding('pairs', 'warning', `${many} on the bus if ACS is clear, which is not known: ${which}`);
    }
    if (client.mapType === 'THRU_HOST_BRIDGE') {
      return client.kernelParameter === null
        ? finding('pairs', 'ok', `${many} through the host bridge (${client.rule}): ${which}`)
        : finding(
            'pairs',
            'warning',
            `${many} sent round by the host bridge, which can be slower: ${which}`,
            'See ACS above.',
          );
    }
    return finding('pairs', 'ok', `${many} on the bus: ${which}`);
  });
}

/** The finding for pairs whose disks do not accept peer memory, whether or not they reach the memory. */
function refusedByDisks(group: readonly Pair[], which: string, hopeless: boolean): Finding {
  const why = new Set(group.map(({ client }) => client.refusal));
  return finding(
    'pairs',
    hopeless ? 'problem' : 'warning',
    `${which}. ${[...why].join('; ')}`,
    'Copy with these through host memory, until their disks take peer memory.',
  );
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
