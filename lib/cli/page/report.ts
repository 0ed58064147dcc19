/**
 * `doctor --report`: what doctor, list, topo and explain say, and the versions, in one page for a ticket. It is made of facts, and
 * of texts out of which names are taken: whose machine it is is told only if that is asked for.
 */
import { hostname } from 'node:os';
import {
  type Controller,
  type Diagnosis,
  type Finding,
  MACHINE_PRESETS,
  P2pdmaError,
  type System,
} from '../../index.js';
import type { PageFacts } from '../../page/facts.js';
import { modelOf } from '../../page/tree.js';
import { bytes, uncoloured } from '../format.js';
import { inspectMachine, type MachineOptions } from '../options.js';
import { xml } from '../svg-text.js';
import { drawText } from '../topo/text.js';
import { packageVersion } from '../version.js';
import { Discretion } from './discretion.js';
import { gatherFacts } from './gather.js';
import { block, pageOf, type Section } from './html.js';

export interface Report {
  readonly diagnosis: Diagnosis;
  /** What each check is called. */
  readonly titles: Readonly<Record<Finding['check'], string>>;
  readonly conclusion: string;
  readonly options: MachineOptions;
  /** Also serial numbers, the host's name, mount points and paths. */
  readonly withNames: boolean;
  /** What explain prints about all pairs. */
  readonly explained: (system: System) => Promise<readonly string[]>;
}

export async function reportPage(report: Report): Promise<string> {
  const { diagnosis, options, withNames, conclusion } = report;
  const system = await inspectMachine(options, 'data');
  try {
    const serials = serialsOf(system);
    const host = isThisMachine(options) ? hostname() : null;
    const discretion = new Discretion(withNames, [...serials.values(), ...namesOf(host)]);
    const name = withNames ? diagnosis.what : nameOf(diagnosis, options);
    const facts = await gatherFacts(system, options, { name, asked: { provider: null, clients: [] } });
    const model = modelOf(system, { name, route: null, all: false });
    const explained = await explainedBy(report, system);
    const text = (lines: readonly string[]) => block(discretion.text(lines.join('\n')));
    return await pageOf({
      title: `Report: peer-to-peer DMA on ${name}`,
      facts: discreet(facts, discretion, withNames),
      text: `${conclusion}\n\nWhat can be chosen here is answered below for all pairs, under “explain”.`,
      above: [{ title: 'doctor', html: findings(report, discretion) }],
      below: [
        { title: 'list', html: drives(system, withNames ? serials : null) },
        { title: 'topo', html: text([drawText(model, uncoloured)]) },
        { title: 'explain', html: text(explained) },
        { title: 'versions', html: versions(system, withNames ? host : null) },
        withNames ? WITH_NAMES : WITHOUT_NAMES,
      ],
    });
  } finally {
    await system.close();
  }
}

/** More drives than this make a table of all pairs that nobody reads, and that takes minutes. */
const MOST_EXPLAINED = 64;

async function explainedBy({ explained }: Report, system: System): Promise<readonly string[]> {
  const drives = system.controllers.filter(({ pdev }) => pdev !== null).length;
  if (drives <= MOST_EXPLAINED) return explained(system);
  return [
    `The table of all pairs is left out: there are ${drives} drives.`,
    'Choose a pair above, or run `p2pdma explain`.',
  ];
}

const WITHOUT_NAMES: Section = {
  title: 'What is left out',
  html: '<p>Serial numbers, the host’s name, mount points and paths of files are not in this page. <code>--with-names</code> puts them in.</p>',
};
const WITH_NAMES: Section = {
  title: 'Names',
  html: '<p>Serial numbers, the host’s name, mount points and paths of files are in this page, as was asked for.</p>',
};

/** Whose machine it is, without its name. */
function nameOf({ machine, what }: Diagnosis, options: MachineOptions): string {
  if (isThisMachine(options)) return 'this machine';
  if (machine === null) return 'a captured machine';
  return isPreset(machine) ? what : 'an emulated machine';
}

function isPreset(machine: string): boolean {
  return (MACHINE_PRESETS as readonly string[]).includes(machine);
}

function isThisMachine({ backend, machine, root, from }: MachineOptions): boolean {
  return machine === undefined && root === undefined && from === undefined && backend !== 'emulator';
}

/** `box.example.org` and `box`. */
function namesOf(host: string | null): string[] {
  return host === null ? [] : [host, host.split('.')[0]!];
}

/** By name of the controller. A machine that cannot be described has none that are known. */
function serialsOf(system: System): Map<string, string> {
  let machine: Record<string, unknown>;
  try {
    machine = system.snapshot({ withSerials: true });
  } catch (error) {
    if (error instanceof P2pdmaError) return new Map();
    throw error;
  }
  const functions = machine.functions as { bdf: string; nvme?: { serial?: string | null } | null }[];
  const byFunction = new Map(functions.map(({ bdf, nvme }) => [bdf, nvme?.serial]));
  return new Map(
    system.controllers.flatMap(({ name, pdev }) => {
      const serial = pdev === null ? null : byFunction.get(pdev.bdf);
      return serial ? [[name, serial] as const] : [];
    }),
  );
}

/** The name of an emulated machine of the user's own may be anybody's. */
function discreet(facts: PageFacts, discretion: Discretion, withNames: boolean): PageFacts {
  const { machine, notice, evidence } = facts;
  const own = !withNames && machine !== null && !isPreset(machine);
  return {
    ...discretion.all(facts),
    name: facts.name,
    machine: own ? null : machine,
    notice: notice !== null && own ? discretion.quoting(notice) : notice,
    evidence: evidence === null ? null : discretion.evidence(evidence),
  };
}

function findings({ diagnosis, titles, conclusion }: Report, discretion: Discretion): string {
  const items = diagnosis.findings.map(({ level, check, fact, remedy, commands }) => {
    const parts = [`<p><strong>${level}</strong> ${xml(titles[check])}: ${xml(discretion.text(fact))}</p>`];
    if (remedy !== null) parts.push(`<p>${xml(discretion.text(remedy))}</p>`);
    if (commands.length > 0)
      parts.push(block(commands.map((command) => discretion.text(command)).join('\n')));
    return `<li class="${level}">${parts.join('\n')}</li>`;
  });
  const left = diagnosis.unchecked.map(({ check, why }) => `${titles[check]} (${why})`).join(', ');
  return [
    `<p><strong>${xml(conclusion)}</strong></p>`,
    `<ul class="findings">\n${items.join('\n')}\n</ul>`,
    ...(left === '' ? [] : [`<p class="muted">not checked: ${xml(left)}</p>`]),
  ].join('\n');
}

const HEADINGS = ['controller', 'address', 'model', 'namespace', 'size', 'block', 'CMB', 'in use'];

/** @param serials null: they and the mount points are left out */
function drives(system: System, serials: ReadonlyMap<string, string> | null): string {
  if (system.controllers.length === 0) return '<p>no NVMe controllers</p>';
  const headings = serials === null ? HEADINGS : [...HEADINGS, 'serial number'];
  const rows = system.controllers.flatMap((controller) => {
    const namespaces = controller.namespaces.length > 0 ? controller.namespaces : [null];
    return namespaces.map((ns) => {
      const { name, pdev, transport, model } = controller;
      const cells = [
        pdev?.bdf ?? `(${transport})`,
        model ?? 'not known',
        ...(ns === null ? ['-', '-', '-'] : [ns.name, bytes(ns.size), `${ns.logicalBlockSize}`]),
        memory(system, controller),
        ns === null ? '-' : use(system, ns.name, serials !== null),
        ...(serials === null ? [] : [serials.get(name) ?? 'not known']),
      ];
      return `<tr><th scope="row">${xml(name)}</th>${cells.map((cell) => `<td>${xml(cell)}</td>`).join('')}</tr>`;
    });
  });
  const head = headings.map((heading) => `<th scope="col">${heading}</th>`).join('');
  return `<div class="wide" role="region" aria-label="list" tabindex="0"><table>\n<thead><tr>${head}</tr></thead>\n<tbody>\n${rows.join('\n')}\n</tbody></table></div>`;
}

function memory({ topology }: System, { cmb, pdev }: Controller): string {
  if (cmb !== null) return cmb.published ? bytes(cmb.size) : `${bytes(cmb.size)}, not published`;
  return pdev !== null && topology.peerMemory === 'unknown' ? 'not known' : 'none';
}

function use(system: System, name: string, withNames: boolean): string {
  const place = system.locate(name);
  if (place === null) return 'not known';
  const words = [place.inUse, ...place.partitions.map(({ inUse }) => inUse)].filter((one) => one !== null);
  if (words.length === 0) return 'no';
  return withNames ? words.join('; ') : 'yes';
}

function versions({ topology, backend, machine }: System, host: string | null): string {
  const rows: readonly (readonly [string, string])[] = [
    ['kernel whose rules apply', topology.kernel?.text ?? 'not known'],
    ['backend', machine === null ? backend : `${backend}: no real machine`],
    [
      'written with',
      `p2pdma ${packageVersion()}, Node.js ${process.versions.node}, ${process.platform} ${process.arch}`,
    ],
    ...(host === null ? [] : [['host', host] as const]),
  ];
  return `<dl>${rows.map(([term, text]) => `<dt>${xml(term)}</dt><dd>${xml(text)}</dd>`).join('')}</dl>`;
}
