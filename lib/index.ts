/**
 * p2pdma: Node streams whose chunks live in an NVMe drive's own memory. This module exports everything that a user may
 * import: at most 70 names. Each of them is used by an example or by the command, or is needed for a call. A type that can
 * be reached through another name (the type of a member, such as `Receipt['transport']`) is not exported on its own.
 * @module
 */
export type {
  Controller,
  Disk,
  LeakReport,
  Origin,
  PassthroughCommand,
  PassthroughResult,
  PathBytes,
  Place,
  QueueLimits,
} from './backend/backend.js';
export type { Evidence } from './backend/evidence.js';
export type { DiagnoseOptions, SnapshotOptions, SystemOptions } from './backend/system-options.js';
export type { HostBridge, PciDev, Topology } from './backend/topology.js';
export { ERROR_CODES, type ErrorCode, P2pdmaError } from './base/errors.js';
export { TRACE_CHANNEL, type TraceEvent } from './base/trace.js';
export type { CopyPlan, PlannedDestination, PlannedEnd } from './copy/plan.js';
export type { Signature } from './copy/signatures.js';
export { type Diagnosis, diagnose, type Finding } from './explain/doctor.js';
export { type HostBridgeVerdict, hostBridgeVerdict } from './kernel/pci-p2pdma-distance.js';
export { KERNEL_RELEASES } from './kernel/releases/table.js';
export { type PromClient, type PrometheusOptions, prometheusMetrics } from './prometheus.js';
export { P2pFileHandle } from './streams/file-handle.js';
export { METRICS_CHANNEL, type Metrics, type MetricsEvent } from './streams/metrics.js';
export {
  type OnProgress,
  optionHelp,
  type Progress,
  type ReadStreamOptions,
  type TargetOptions,
  type WriteStreamOptions,
} from './streams/options.js';
export { Pace } from './streams/pace.js';
export { P2pReadStream } from './streams/read-stream.js';
export { type Receipt, receiptOf } from './streams/receipt.js';
export { Target } from './streams/target.js';
export { P2pWriteStream } from './streams/write-stream.js';
export {
  type Allocation,
  type ClientVerdict,
  createReadStream,
  createWriteStream,
  describeMachine,
  type Explanation,
  type Hop,
  MACHINE_PRESETS,
  openSystem,
  type PipelineDestination,
  type PipelineOptions,
  type PipelineSource,
  pipeline,
  planCopy,
  type RouteChoice,
  type Stacked,
  System,
  type Unreachable,
} from './system.js';
