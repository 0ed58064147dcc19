/**
 * `explain --try` asks the kernel. One block of the client's data is read into the provider's memory, as any program
 * would read it. The kernel's answer decides what the tables leave open.
 *
 *     1  the block into host memory                      does the drive read it at all?
 *     2  one page of the provider's pool, other bytes put there
 *     3  the block into that page (O_DIRECT)             taken, or refused
 *     4  the block into host memory again                are the bytes that arrived those of the drive?
 *     5  the page back to the pool
 *
 * Nothing is written to a drive. A pair is tried only if the answer would be about this pair.
 */
import type { Backend, BlockTarget, Place } from '../backend/backend.js';
import { whyNotPublished } from '../backend/names.js';
import type { PciDev } from '../backend/topology.js';
import { EINVAL, errnoName } from '../base/errno.js';
import { P2pdmaError } from '../base/errors.js';
import { calcMapTypeAndDist } from '../kernel/pci-p2pdma.js';
import { refusesPeersWithEinval } from '../kernel/releases/table.js';
import { isPeerRefusal } from '../streams/refusal.js';
import { transfer } from '../streams/transfer.js';
import type { ClientVerdict, Explanation } from './explain.js';

type Trial = NonNullable<ClientVerdict['tried']>;

/**
 * Try each pair of an explanation, one after another.
 * @throws P2pdmaError ERR_BACKEND_UNAVAILABLE: this machine can only be inspected
 */
export async function tryEach(backend: Backend, explanation: Explanation): Promise<Explanation> {
  const provider = backend.topology.find(explanation.provider)!;
  const clients: ClientVerdict[] = [];
  for (const verdict of explanation.clients) {
    clients.push(settle(backend, provider, verdict, await tryPair(backend, provider, verdict)));
  }
  const unsupported =
    clients.length === 0 ||
    explanation.unreachable !== undefined ||
    clients.some(({ distance }) => distance < 0);
  const distance = unsupported ? -1 : clients.reduce((sum, one) => sum + one.distance, 0);
  return { ...explanation, distance, clients };
}

function none(why: string): Trial {
  return { outcome: 'none', did: `Nothing was done: ${why}.`, answered: null, code: null };
}

async function tryPair(backend: Backend, provider: PciDev, verdict: ClientVerdict): Promise<Trial> {
  if (provider.p2pmem === null) return none(`${provider.bdf} has no p2pmem`);
  if (!provider.p2pmem.published) {
    return none(`nothing else may use the memory of ${provider.bdf}: ${whyNotPublished(provider)}`);
  }
  const what = readable(backend, verdict);
  if ('why' in what) return none(what.why);
  let target: BlockTarget;
  try {
    target = await backend.openTarget(what.name, {});
  } catch (error) {
    return none(wordsOf(error));
  }
  try {
    return await readInto(backend, provider, target);
  } finally {
    await target.close();
  }
}

/**
 * What can be read from the client so that the answer is about the pair: it needs one drive, and a stack that accepts
 * peer memory.
 */
function readable(
  backend: Backend,
  { asked, bdf, name }: ClientVerdict,
): { readonly name: string } | { readonly why: string } {
  if (asked !== bdf && asked !== name && backend.topology.find(asked) === null) {
    const place = backend.inspect(asked).place;
    if (place !== null && !isController(backend, asked)) return whole(asked, place);
  }
  const controller = backend.controllers.find(({ pdev }) => pdev?.bdf === bdf);
  if (controller === undefined) return { why: `${bdf} is no NVMe controller, so there is no block to read` };
  let first: string | null = null;
  for (const { name: namespace, size } of controller.namespaces) {
    if (size === 0) continue;
    const place = backend.inspect(namespace).place;
    const found = place === null ? { why: `${namespace} is not there` } : whole(namespace, place);
    if ('name' in found) return found;
    first ??= found.why;
  }
  return { why: first ?? `${controller.name} has no namespace with a block to read` };
}

function isController({ controllers }: Backend, asked: string): boolean {
  return controllers.some(({ name }) => name === asked || `/dev/${name}` === asked);
}

function whole(name: string, { clients, noP2pReason }: Place): { name: string } | { why: string } {
  if (noP2pReason !== null)
    return { why: `${noP2pReason}; reading it does not show whether this pair works` };
  if (clients.length !== 1) {
    return { why: `a block of ${name} may be on any of several drives; name a drive instead` };
  }
  return { name };
}

async function readInto(backend: Backend, provider: PciDev, target: BlockTarget): Promise<Trial> {
  const block = target.limits.logicalBlockSize;
  if (target.noP2pReason !== null) return none(target.noP2pReason);
  if (target.size < block) return none(`${target.name} has no whole block to read`);
  const held: { munmap(): void }[] = [];
  const take = <T extends { munmap(): void }>(mapping: T): T => {
    held.push(mapping);
    return mapping;
  };
  try {
    const [before, after] = [0, 1].map(
      () => new Uint8Array(take(backend.memory.allocHost(block)).buffer, 0, block),
    );
    await read(target, before!);
    const lent = take(backend.memory.mmapP2pmem(provider, block));
    const page = new Uint8Array(lent.buffer, 0, block);
    for (const [i, byte] of before!.entries()) page[i] = ~byte;
    const did =
      `One read of the first block of ${target.name} (${block} bytes, O_DIRECT) into ${lent.bytes} bytes of the pool of ` +
      `${provider.bdf}, which are given back. Nothing was written to a drive.`;
    const error = await read(target, page).then(
      () => null,
      (failed: P2pdmaError) => failed,
    );
    if (error !== null) return failedTrial(backend, provider, did, error);
    await read(target, after!);
    return { ...arrived(before!, page, after!, target.unproven), did, code: null };
  } catch (error) {
    return none(wordsOf(error));
  } finally {
    for (const mapping of held) mapping.munmap();
  }
}

function read(target: BlockTarget, view: Uint8Array): Promise<number> {
  return transfer(target, { op: 'read', view, offset: 0 });
}

function arrived(
  before: Uint8Array,
  page: Uint8Array,
  after: Uint8Array,
  unproven: string | null,
): Pick<Trial, 'outcome' | 'answered'> {
  const took = 'The kernel took it';
  if (unproven !== null) {
    return {
      outcome: 'unproven',
      answered: `${took}, which does not prove where the bytes went: ${unproven}.`,
    };
  }
  if (!same(before, after)) {
    return {
      outcome: 'works',
      answered: `${took}. Somebody wrote that block meanwhile, so its bytes were not compared.`,
    };
  }
  return same(before, page)
    ? { outcome: 'works', answered: `${took}, and the bytes are those that host memory gets.` }
    : {
        outcome: 'wrong',
        answered: `${took} and reported success, and other bytes arrived than host memory gets: use no peer memory here.`,
      };
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function failedTrial(
  { release, topology }: Backend,
  { bdf }: PciDev,
  did: string,
  error: P2pdmaError,
): Trial {
  const errno = error.errno ?? 0;
  const code = errnoName(errno);
  if (!isPeerRefusal(errno, { provider: { bdf }, aligned: true, release })) {
    return {
      outcome: 'failed',
      did,
      answered: `${error.message}: this error does not show whether the pair works.`,
      code,
    };
  }
  const byQueue = Math.abs(errno) !== EINVAL && refusesPeersWithEinval(topology.kernel) === true;
  const whose = byQueue
    ? 'which is how it refuses for a queue that takes no peer memory; a pair it refuses with EINVAL'
    : 'which is how it refuses a pair';
  return {
    outcome: byQueue ? 'queue' : 'refused',
    did,
    answered: `The kernel refused it: ${code}, ${whose}.`,
    code,
  };
}

/** @throws the error itself if it says nothing about this pair */
function wordsOf(error: unknown): string {
  if (!(error instanceof P2pdmaError) || error.code === 'ERR_BACKEND_UNAVAILABLE') throw error;
  return error.message;
}

/** The verdict after the trial: the kernel's answer takes precedence over the computed one. */
function settle(backend: Backend, provider: PciDev, verdict: ClientVerdict, tried: Trial): ClientVerdict {
  const { outcome } = tried;
  if (outcome === 'queue') return { ...verdict, tried, refusal: verdict.refusal ?? tried.answered };
  if (outcome !== 'works' && outcome !== 'refused') return { ...verdict, tried };
  const client = backend.topology.find(verdict.bdf)!;
  const { possible, distance, commonBridge } = calcMapTypeAndDist(backend.topology, provider, client);
  const left = possible.filter(
    (type) => (type === 'PCI_P2PDMA_MAP_NOT_SUPPORTED') === (outcome === 'refused'),
  );
  const known = left.length > 0 && left.length === possible.length;
  if (known || left.length > 1) return { ...verdict, tried };
  const works: ClientVerdict['mapType'] =
    left.length === 1
      ? (left[0]!.slice('PCI_P2PDMA_MAP_'.length) as ClientVerdict['mapType'])
      : commonBridge === null
        ? 'THRU_HOST_BRIDGE'
        : 'UNKNOWN';
  const mapType = outcome === 'refused' ? 'NOT_SUPPORTED' : works;
  const against = left.length === 0 ? ' That is not what was computed, and the kernel is right.' : '';
  const passes = outcome === 'works';
  return {
    ...verdict,
    tried,
    mapType,
    distance: passes ? distance : -1,
    rule: 'trial',
    reason: `${tried.answered}${against} Without the trial: ${verdict.reason}`,
    remedy: verdict.kernelParameter === null ? (passes ? null : ELSEWHERE) : verdict.remedy,
    hops: verdict.hops.map((hop) =>
      hop.kind === 'host-bridge' ? { ...hop, passes, note: 'as the trial showed' } : hop,
    ),
  };
}

const ELSEWHERE = 'Put both devices below one PCIe switch, or copy through host memory.';
