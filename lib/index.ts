/**
 * p2pdma: Node streams whose chunks live in an NVMe drive's own memory. Everything a user may import.
 * @module
 */
export type {
  BlockTarget,
  Controller,
  LeakReport,
  Origin,
  PassthroughCommand,
  PassthroughResult,
  PathBytes,
  Place,
  QueueLimits,
} from './backend/backend.js';
export type { KernelRelease, KernelVendor } from './backend/kernel-release.js';
export type {
  DiagnoseOptions,
  MachineSpec,
  SnapshotOptions,
  SystemOptions,
} from './backend/system-options.js';
export type {
  AcsControl,
  Bdf,
  Cpu,
  HostBridge,
  IommuMode,
  PciBar,
  PciDev,
  PciePortType,
  Topology,
} from './backend/topology.js';
export { ERROR_CODES, type ErrorAdvice, type ErrorCode, P2pdmaError } from './base/errors.js';
export { TRACE_CHANNEL, type TraceEvent } from './base/trace.js';
export type { CopyPlan, PlannedDestination, PlannedEnd } from './copy/plan.js';
export type { Signature, SignatureKind } from './copy/signatures.js';
export {
  type Diagnosis,
  type DoctorVerdict,
  diagnose,
  type Finding,
  type FindingCheck,
  type FindingLevel,
  type Unchecked,
} from './explain/doctor.js';
export {
  type DistanceRule,
  type HostBridgeVerdict,
  hostBridgeVerdict,
} from './kernel/pci-p2pdma.js';
export { KERNEL_RELEASES } from './kernel/releases/table.js';
export { type PromClient, type PrometheusOptions, prometheusMetrics } from './prometheus.js';
export {
  METRICS_CHANNEL,
  type Metrics,
  type MetricsEvent,
  type P2pmemUse,
  type PoolUse,
} from './streams/metrics.js';
export {
  type OnProgress,
  type OptionHelp,
  optionHelp,
  type Progress,
  type ProgressPhase,
  type ReadStreamOptions,
  type StreamArgument,
  type TargetOptions,
  type WriteStreamOptions,
} from './streams/options.js';
export { Pace } from './streams/pace.js';
export { P2pReadStream } from './streams/read-stream.js';
export { type Receipt, receiptOf, type Transport } from './streams/receipt.js';
export { Target } from './streams/target.js';
export { P2pWriteStream } from './streams/write-stream.js';
export {
  type Allocation,
  type ClientVerdict,
  createReadStream,
  createWriteStream,
  type Explanation,
  type ExplanationNote,
  type Hop,
  MACHINE_PRESETS,
  openSystem,
  type PipelineDestination,
  type PipelineOptions,
  type PipelineSource,
  pipeline,
  planCopy,
  type RouteChoice,
  System,
  type Unreachable,
} from './system.js';
