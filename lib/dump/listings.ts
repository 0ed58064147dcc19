/**
 * JSON of other programs:
 *
 *     nvme list -o json            { Devices: [{ DevicePath, ModelNumber, … }] }                  1.x, and 2.x before 2.11
 *     nvme list -v -o json         { Devices: [{ Subsystems: [{ Controllers: [{ Namespaces }] }] }] }    since 2.11 without -v
 *     nvme list-subsys -o json     { Subsystems: [{ Name, Paths: [{ Name, Transport, Address }] }] }, in a list by host since 2.x
 *     lsblk -J                     { blockdevices: [{ name, size, … }] }; numbers are texts before util-linux 2.33
 */
import { bareName, normalizeBdf, PCI_ADDRESS } from '../backend/names.js';
import type { Drives, NamespaceFacts } from './drive-facts.js';
import { type Gathered, type Reader, type SentText, START } from './sent.js';

/** So much of a text is looked at to recognise it. */
const MOST = START;
const NVME_LIST = 'nvme list';
const NAMESPACE = /^nvme\d+n\d+$/;
const CONTROLLER = /^nvme\d+$/;
/** No machine has more drives than this. */
const MOST_OF_ANY = 10_000;

type Fields = Readonly<Record<string, unknown>>;

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const fieldsOf = (value: unknown): Fields[] =>
  Array.isArray(value) ? value.slice(0, MOST_OF_ANY).filter(isFields) : [];

/** Undefined: nothing, or not one line of text. */
function text(value: unknown): string | undefined {
  if (typeof value !== 'string') return undefined;
  const trimmed = value.trim();
  return trimmed === '' || trimmed.length > 256 || /\p{Cc}/u.test(trimmed) ? undefined : trimmed;
}

/** Of a name or a path. */
function diskName(value: unknown): string | undefined {
  const name = text(value);
  return name === undefined ? undefined : bareName(name);
}

/** nvme-cli 1.x prints large sizes as negative numbers; lsblk without -b rounds them. Neither is a size. */
function whole(value: unknown, most: number): number | undefined {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  return typeof number === 'number' && Number.isInteger(number) && number > 0 && number <= most
    ? number
    : undefined;
}

function bytesOf(value: unknown): number | undefined {
  const bytes = whole(value, Number.MAX_SAFE_INTEGER);
  return bytes !== undefined && bytes % 512 === 0 ? bytes : undefined;
}

function blockSizeOf(value: unknown): number | undefined {
  const bytes = whole(value, 65536);
  return bytes !== undefined && bytes >= 512 && Number.isInteger(Math.log2(bytes)) ? bytes : undefined;
}

/** Without what is undefined. */
function known<T extends object>(facts: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined)) as T;
}

function jsonOf({ bytes, start }: SentText): unknown {
  if (bytes.length > MOST || !/^\s*[[{]/.test(start.slice(0, 256))) return null;
  try {
    return JSON.parse(start);
  } catch {
    return null;
  }
}

const reader = (
  holds: (json: unknown) => boolean,
  read: (json: unknown, into: Gathered) => void,
): Reader => ({
  fits: (sent) => holds(jsonOf(sent)),
  read: (sent, into) => read(jsonOf(sent), into),
});

// --- nvme ---

const devicesOf = (json: unknown): Fields[] => (isFields(json) ? fieldsOf(json.Devices) : []);
/** One object, or a list of them, by host. */
const subsystemsOf = (json: unknown): Fields[] =>
  (Array.isArray(json) ? fieldsOf(json) : [json].filter(isFields)).flatMap((host) =>
    fieldsOf(host.Subsystems),
  );

export const nvmeList = reader(
  (json) => devicesOf(json).some(({ DevicePath, Subsystems }) => !!DevicePath || Array.isArray(Subsystems)),
  (json, into) => {
    into.recognised(NVME_LIST);
    for (const device of devicesOf(json)) {
      for (const subsystem of fieldsOf(device.Subsystems)) readSubsystem(subsystem, into.drives);
      const name = diskName(device.DevicePath);
      if (name !== undefined && NAMESPACE.test(name))
        into.drives.namespace(name, namespaceOf(device), NVME_LIST);
    }
  },
);

export const nvmeListSubsys = reader(
  (json) => subsystemsOf(json).some(({ Paths, NQN }) => Array.isArray(Paths) || typeof NQN === 'string'),
  (json, into) => {
    into.recognised('nvme list-subsys');
    let nameless: { NQN?: unknown; Name?: unknown } = {};
    for (const entry of subsystemsOf(json)) {
      // In 1.x a subsystem and its paths are two entries, one after the other.
      const subsystem = { ...nameless, ...entry };
      nameless = entry.Paths === undefined ? entry : {};
      for (const path of fieldsOf(entry.Paths))
        readController(text(path.Name), path, subsystem, into.drives, 'nvme list-subsys');
    }
  },
);

/** The head of several paths is listed for its subsystem, and by nvme-cli 1.x for each of its controllers: it is not one controller's. */
function readSubsystem(subsystem: Fields, drives: Drives): void {
  const of = { Name: subsystem.Subsystem, NQN: subsystem.SubsystemNQN };
  const owners = new Map<string, Set<string>>();
  const disks = new Map<string, Fields>();
  for (const controller of fieldsOf(subsystem.Controllers)) {
    const name = text(controller.Controller);
    readController(name, controller, of, drives, NVME_LIST);
    for (const namespace of fieldsOf(controller.Namespaces)) {
      const disk = text(namespace.NameSpace ?? namespace.Namespace);
      if (name === undefined || disk === undefined || !NAMESPACE.test(disk)) continue;
      disks.set(disk, namespace);
      owners.set(disk, (owners.get(disk) ?? new Set()).add(name));
    }
  }
  for (const namespace of fieldsOf(subsystem.Namespaces)) {
    const disk = text(namespace.NameSpace ?? namespace.Namespace);
    if (disk !== undefined && NAMESPACE.test(disk)) disks.set(disk, namespace);
  }
  for (const [disk, namespace] of disks) {
    const [owner, other] = owners.get(disk) ?? [];
    const only = other === undefined && owner !== undefined ? { controller: owner } : {};
    drives.namespace(disk, { ...namespaceOf(namespace), ...only }, NVME_LIST);
  }
}

/** `traddr=0000:03:00.0` in 2.x before 2.1, the address alone before and after. */
function readController(
  name: string | undefined,
  facts: Fields,
  of: Fields,
  drives: Drives,
  from: string,
): void {
  if (name === undefined || !CONTROLLER.test(name)) return;
  const address = text(facts.Address)?.replace(/^traddr=/, '');
  drives.controller(
    name,
    known({
      address: address !== undefined && PCI_ADDRESS.test(address) ? normalizeBdf(address) : undefined,
      transport: text(facts.Transport),
      model: text(facts.ModelNumber),
      serial: text(facts.SerialNumber),
      firmware: text(facts.Firmware),
      state: text(facts.State),
      nqn: text(of.NQN),
      subsystem: text(of.Name),
    }),
    from,
  );
}

function namespaceOf(facts: Fields): NamespaceFacts {
  return known({
    nsid: whole(facts.NSID ?? facts.NameSpace, 0xffffffff),
    bytes: bytesOf(facts.PhysicalSize),
    blockSize: blockSizeOf(facts.SectorSize),
    model: text(facts.ModelNumber),
    serial: text(facts.SerialNumber),
    firmware: text(facts.Firmware),
  });
}

// --- lsblk ---

const disksOf = (json: unknown): Fields[] => (isFields(json) ? fieldsOf(json.blockdevices) : []);

export const lsblk = reader(
  (json) => isFields(json) && Array.isArray(json.blockdevices),
  (json, into) => {
    into.recognised('lsblk');
    for (const disk of disksOf(json)) readDisk(disk, into);
  },
);

function readDisk(disk: Fields, into: Gathered): void {
  const name = diskName(disk.name);
  if (name === undefined || !NAMESPACE.test(name)) return;
  into.drives.namespace(
    name,
    known({
      bytes: bytesOf(disk.size),
      blockSize: blockSizeOf(disk['log-sec']),
      readOnly:
        typeof disk.ro === 'boolean' ? disk.ro : disk.ro === '1' ? true : disk.ro === '0' ? false : undefined,
      model: text(disk.model),
      serial: text(disk.serial),
    }),
    'lsblk',
  );
}
