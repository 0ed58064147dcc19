/**
 * What the page does: it takes the facts that were written into it, asks lib/explain whenever something is chosen or changed,
 * and draws the answer. Nothing is fetched and nothing is kept.
 */
import type { AcsControl, IommuMode } from '../../backend/topology.js';
import { type Answer, answer, drivesOf, providersOf, withoutRedirects } from '../answer.js';
import { AS_IT_IS, type Changes, machineOf, type PageFacts } from '../facts.js';
import { byId, element, fill, keepingFocus } from './dom.js';
import { drawTree, listenToTree } from './tree-view.js';
import { drawDrives, drawHops, drawVerdict } from './verdict-view.js';

const page = JSON.parse(byId('machine-facts').textContent!) as PageFacts;
const asItIs = machineOf(page);

const providerBox = byId<HTMLSelectElement>('provider');
const clientBox = byId<HTMLSelectElement>('client');
const kernelBox = byId<HTMLSelectElement>('kernel');
const iommuBox = byId<HTMLSelectElement>('iommu');
const allBox = byId<HTMLInputElement>('all');

let acs: ReadonlyMap<string, AcsControl> = new Map();
let shown: Answer;

function changes(): Changes {
  const iommu = iommuBox.value as IommuMode;
  return {
    kernel: Number(kernelBox.value),
    iommu: iommu === asItIs.topology.iommu ? null : iommu,
    acs,
  };
}

function nameOf(bdf: string): string {
  const controller = asItIs.controllers.find(({ pdev }) => pdev?.bdf === bdf);
  return controller === undefined ? bdf : `${controller.name} ${bdf}`;
}

function draw(): void {
  shown = answer(page, { provider: providerBox.value, client: clientBox.value, changes: changes() });
  byId<HTMLButtonElement>('reset').disabled = shown.before === null;
  keepingFocus('verdict-heading', () => {
    drawVerdict(shown, nameOf);
    drawHops(shown, acs);
    drawDrives(shown, nameOf);
    drawTree(shown, allBox.checked);
  });
}

function option(value: string, text: string): HTMLOptionElement {
  return element('option', { value }, text);
}

/** Selects it; what is not offered yet is added. */
function select(box: HTMLSelectElement, value: string): void {
  if (![...box.options].some((one) => one.value === value)) box.append(option(value, nameOf(value)));
  box.value = value;
}

function fillBoxes(): boolean {
  const [providers, drives] = [providersOf(asItIs), drivesOf(asItIs)];
  const far = [...asItIs.controllers.filter(({ pdev }) => pdev === null), ...asItIs.stacked()].map(
    ({ name }) => name,
  );
  fill(providerBox, ...providers.map((bdf) => option(bdf, nameOf(bdf))));
  fill(clientBox, ...[...drives, ...far].map((one) => option(one, nameOf(one))));
  const provider = page.asked.provider ?? providers[0];
  const client = page.asked.clients[0] ?? drives.find((bdf) => bdf !== provider) ?? drives[0] ?? far[0];
  for (const one of page.asked.clients) select(clientBox, one);
  if (provider === undefined || client === undefined) return false;
  select(providerBox, provider);
  select(clientBox, client);
  fill(
    kernelBox,
    ...page.kernels.map(({ release }, i) => {
      const words = release === null ? 'not known' : `Linux ${release.replace(/\.0$/, '')}`;
      return option(String(i), i === 0 ? `${words} (as it is)` : words);
    }),
  );
  fillIommu();
  return true;
}

/** A machine whose DMA operations map no peer memory: what its queues would take otherwise was not looked at. */
function fillIommu(): void {
  const own = asItIs.topology.iommu;
  const fixed = own === 'unsupported';
  const others = (['none', 'translating', 'unsupported'] as const).filter((mode) => mode !== own);
  fill(
    iommuBox,
    option(own, `${own === 'unknown' ? 'not known' : own} (as it is)`),
    ...(fixed ? [] : others.map((mode) => option(mode, mode))),
  );
  byId('iommu-fixed').hidden = !fixed;
}

function setAcs(at: string, value: AcsControl | null): void {
  const next = new Map(acs);
  if (value === null || value === asItIs.topology.find(at)!.acs) next.delete(at);
  else next.set(at, value);
  acs = next;
  draw();
}

function listen(): void {
  for (const box of [providerBox, clientBox, kernelBox, iommuBox, allBox])
    box.addEventListener('change', draw);
  byId('reset').addEventListener('click', () => {
    acs = AS_IT_IS.acs;
    kernelBox.value = '0';
    iommuBox.value = asItIs.topology.iommu;
    draw();
    kernelBox.focus();
  });
  byId('try-remedy').addEventListener('click', () => {
    acs = new Map([
      ...acs,
      ...shown.pair.clients.flatMap((one) => [...withoutRedirects(shown.machine, one)]),
    ]);
    draw();
    byId('verdict-heading').focus();
  });
  byId('hops').addEventListener('change', ({ target }) => {
    const box = target as HTMLInputElement;
    const at = box.dataset.at!;
    const now = shown.machine.topology.find(at)!.acs as number;
    const bit = Number(box.dataset.bit);
    setAcs(at, box.checked ? now | bit : now & ~bit);
  });
  byId('hops').addEventListener('click', ({ target }) => {
    const { acs: wanted, at } = (target as HTMLElement).dataset;
    if (wanted === undefined) return;
    setAcs(at!, wanted === 'undo' ? null : 0);
    byId('hops').querySelector<HTMLElement>(`[data-at='${at}']`)?.focus();
  });
  listenToTree((bdf) => {
    select(byId<HTMLInputElement>('pick-provider').checked ? providerBox : clientBox, bdf);
    draw();
  });
}

if (fillBoxes()) {
  listen();
  draw();
} else {
  fill(
    byId('interactive'),
    element('p', {}, 'No NVMe drive and no peer memory is known here: there is nothing to explain.'),
  );
}
byId('interactive').hidden = false;
