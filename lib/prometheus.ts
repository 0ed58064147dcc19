/**
 * A system's metrics as Prometheus text, through prom-client. The caller passes prom-client in (it is an optional peer
 * dependency). So this package works without it, and the numbers are in the caller's own registry.
 */
import { wrongArgument } from './base/arguments.js';
import * as z from './base/zod.js';
import type { Metrics } from './streams/metrics.js';
import { parseOptions } from './streams/options.js';
import { System } from './system.js';

/** The part of prom-client that is used here. */
export interface PromClient<Registry = unknown> {
  /** prom-client's class `Counter`. */
  readonly Counter: new (
    options: PromMetricOptions<Registry>,
  ) => unknown;
  /** prom-client's class `Gauge`. */
  readonly Gauge: new (
    options: PromMetricOptions<Registry>,
  ) => unknown;
}

interface PromMetricOptions<Registry> {
  name: string;
  help: string;
  labelNames: string[];
  registers?: Registry[];
  collect(this: PromMetric): void;
}

/** A Counter or a Gauge: both can be reset and set again at each scrape with these methods. */
interface PromMetric {
  reset(): void;
  inc(labels: Record<string, string>, value: number): void;
}

/** Where the metrics are registered and how they are named. */
export interface PrometheusOptions<Registry = unknown> {
  /** The registries to use. Default: prom-client's default registry. */
  readonly registers?: Registry[];
  /** The prefix of each metric's name. Default: `'p2pdma_'`. */
  readonly prefix?: string;
}

/**
 * Labels of every metric, so that the numbers of an emulated machine are never mistaken for those of a real one. For a real
 * machine, `machine` is empty.
 */
const ORIGIN = ['backend', 'machine'] as const;

type Sample = readonly [labels: Record<string, string>, value: number];

interface Row {
  readonly kind: 'Counter' | 'Gauge';
  readonly name: string;
  readonly help: string;
  readonly labels: string[];
  samples(metrics: Metrics): Iterable<Sample>;
}

const labelled = (label: string, values: object): Sample[] =>
  Object.entries(values).map(([key, value]) => [{ [label]: key }, value as number]);

const rows: readonly Row[] = [
  {
    kind: 'Counter',
    name: 'path_bytes_total',
    help: 'Bytes by the way they went: internal, peerBus, hostBridge, hostDram; unproven: not known.',
    labels: ['path'],
    samples: ({ path }) => labelled('path', path),
  },
  {
    kind: 'Counter',
    name: 'bytes_total',
    help: 'Bytes delivered by reads and accepted by writes.',
    labels: ['op'],
    samples: ({ bytes }) => labelled('op', bytes),
  },
  {
    kind: 'Counter',
    name: 'transfers_total',
    help: 'Requests that ended.',
    labels: ['op'],
    samples: ({ transfers }) => labelled('op', transfers),
  },
  {
    kind: 'Gauge',
    name: 'streams_by_transport',
    help: 'Streams since the system was opened, by the transport they had.',
    labels: ['transport'],
    samples: ({ transports }) => labelled('transport', transports),
  },
  {
    kind: 'Counter',
    name: 'errors_total',
    help: 'Failures by code.',
    labels: ['code'],
    samples: ({ errors }) => labelled('code', errors),
  },
  {
    kind: 'Gauge',
    name: 'in_flight',
    help: 'Requests on their way.',
    labels: [],
    samples: ({ inFlight }) => [[{}, inFlight]],
  },
  {
    kind: 'Gauge',
    name: 'open',
    help: 'Open streams, targets and handles.',
    labels: ['kind'],
    samples: ({ open }) => labelled('kind', open),
  },
  {
    kind: 'Gauge',
    name: 'pool_bytes',
    help: 'Memory mapped for slots.',
    labels: ['provider'],
    samples: ({ pools }) => pools.map((pool) => [{ provider: pool.provider ?? 'host' }, pool.bytes]),
  },
  {
    kind: 'Gauge',
    name: 'pool_slots',
    help: 'Slots by state.',
    labels: ['provider', 'state'],
    samples: ({ pools }) =>
      pools.flatMap(({ provider: bdf, slots, inUse }): Sample[] => {
        const provider = bdf ?? 'host';
        return [
          [{ provider, state: 'used' }, inUse],
          [{ provider, state: 'free' }, slots - inUse],
        ];
      }),
  },
  {
    kind: 'Gauge',
    name: 'p2pmem_size_bytes',
    help: 'Size of a provider’s peer-to-peer memory.',
    labels: ['provider'],
    samples: ({ p2pmem }) => p2pmem.map(({ provider, size }) => [{ provider }, size]),
  },
  {
    kind: 'Gauge',
    name: 'p2pmem_available_bytes',
    help: 'What of it nobody has mapped.',
    labels: ['provider'],
    samples: ({ p2pmem }) => p2pmem.map(({ provider, available }) => [{ provider }, available]),
  },
];

const prometheusOptions = z.strictObject({
  registers: z.optional(z.array(z.unknown())),
  prefix: z.optional(z.string()),
});

/**
 * Register a system's metrics. Their values are collected only when the registry is scraped.
 *
 *     import client from 'prom-client';
 *     prometheusMetrics(system, client);
 *     await client.register.metrics(); // text
 */
export function prometheusMetrics<Registry>(
  system: System,
  client: PromClient<Registry>,
  options: PrometheusOptions<Registry> = {},
): void {
  if (!(system instanceof System)) throw wrongArgument('prometheusMetrics', 'system', 'a System', system);
  for (const kind of ['Counter', 'Gauge'] as const) {
    if (typeof client?.[kind] !== 'function') {
      throw wrongArgument('prometheusMetrics', 'client', 'prom-client, with its Counter and Gauge', client);
    }
  }
  parseOptions(prometheusOptions, options);
  const { prefix = 'p2pdma_', registers } = options;
  for (const { kind, name, help, labels, samples } of rows) {
    new client[kind]({
      name: prefix + name,
      help,
      labelNames: [...ORIGIN, ...labels],
      ...(registers === undefined ? {} : { registers }),
      collect() {
        this.reset();
        const metrics = system.metrics();
        const { backend, machine } = metrics;
        for (const [sample, value] of samples(metrics)) {
          this.inc({ backend, machine: machine ?? '', ...sample }, value);
        }
      },
    });
  }
}
