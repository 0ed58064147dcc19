/** What one seed stands for, as plain data: it can be printed, made smaller, and played again. */
import type { Fault, MachineInput } from '../machine/machine.js';
import type { Pace } from './world.js';

/** Options of the streams of an operation; undefined ones are left to their defaults. */
export interface Knobs {
  readonly highWaterMark?: number;
  readonly queueDepth?: number;
  readonly memory?: 'auto' | 'host';
  readonly provider?: 'auto' | 'none';
  readonly flags?: 'w' | 'r+';
  readonly flush?: boolean;
  readonly verify?: boolean;
}

/** A part of an end: a device by name, or a file by path. */
export interface Part {
  readonly end: string;
  readonly at: number;
}

interface Moves {
  readonly from: Part;
  readonly length: number;
  readonly knobs: Knobs;
  /** Abort it so many events after it began. */
  readonly abort: number | null;
}

/** Somebody else changes the source while it is read. */
export interface Disturbance {
  readonly kind: 'shorten' | 'grow' | 'overwrite';
  /** So many events after the operation began. */
  readonly after: number;
  readonly bytes: number;
}

export type Op =
  | (Moves & {
      readonly kind: 'copy';
      readonly way: 'paths' | 'streams' | 'pipe';
      readonly to: readonly Part[];
      readonly disturbance: Disturbance | null;
    })
  | (Moves & { readonly kind: 'journal'; readonly to: readonly Part[]; readonly journal: string })
  | (Moves & {
      readonly kind: 'read';
      readonly way: 'data' | 'for-await' | 'lent';
      readonly disturbance: Disturbance | null;
    })
  | {
      readonly kind: 'write';
      readonly to: Part;
      readonly generation: number;
      readonly pieces: readonly number[];
      readonly knobs: Knobs;
      readonly abort: number | null;
    }
  | {
      readonly kind: 'target';
      readonly from: Part;
      readonly to: Part;
      readonly length: number;
      readonly step: number;
      /** Memory of this controller; null: of the host. */
      readonly provider: string | null;
    }
  /** Opens a device for writing that is in use, without force. */
  | { readonly kind: 'trespass'; readonly end: string };

export type Trouble = { readonly step: number } & (
  | { readonly kind: 'fault'; readonly fault: Fault }
  | { readonly kind: 'remove'; readonly controller: string }
  | { readonly kind: 'reset'; readonly controller: string }
  /** A drive reports the write that comes after so many others as complete, and never stores it. */
  | { readonly kind: 'lost-write'; readonly disk: string; readonly after: number }
  | { readonly kind: 'clock'; readonly ms: number }
  /** The first one ends everything; what follows is the next boot. */
  | { readonly kind: 'power-cut' }
);

export interface FileSpec {
  readonly path: string;
  readonly size: number;
  readonly generation: number;
}

export interface Scenario {
  readonly seed: number;
  readonly machine: MachineInput;
  readonly files: readonly FileSpec[];
  readonly pace: Pace;
  /** The chance that the file system reads or writes less than it was asked to. */
  readonly short: number;
  /** Lanes run at the same time; the operations of a lane one after the other. Only a lane itself writes to its parts. */
  readonly lanes: readonly (readonly Op[])[];
  readonly troubles: readonly Trouble[];
}
