import {
  NVME_SC_SUCCESS,
  NVME_SC_ZONE_BOUNDARY_ERROR,
  NVME_SC_ZONE_FULL,
  NVME_SC_ZONE_INVALID_WRITE,
} from '../../backend/nvme-spec.js';

/**
 * The zones of a namespace: each is as long as the others and takes writes only at its write pointer. No command reads or
 * writes across two of them. All are empty when the machine starts. There is no limit to the number of open zones.
 *
 *     |■■■■■■■■■□□□□□□□|■■■■■■■■■■■■■■■■|□□□□□□□□□□□□□□□□|
 *               ▲ write pointer   full                     empty
 */
export class Zones {
  /** In bytes. */
  readonly zoneSize: number;
  /** How far each zone is written, by its number; absent: it is empty. */
  readonly #written = new Map<number, number>();

  constructor(zoneSize: number) {
    this.zoneSize = zoneSize;
  }

  /** Checks a read: like many drives, this one has none across zones. @returns an NVMe status */
  read(offset: number, length: number): number {
    const inside = offset % this.zoneSize;
    return inside + length > this.zoneSize ? NVME_SC_ZONE_BOUNDARY_ERROR : NVME_SC_SUCCESS;
  }

  /** Checks a write. If it is in order, the write pointer advances. @returns an NVMe status */
  write(offset: number, length: number): number {
    const { zoneSize } = this;
    const zone = Math.floor(offset / zoneSize);
    const inside = offset - zone * zoneSize;
    const pointer = this.#written.get(zone) ?? 0;
    if (inside + length > zoneSize) return NVME_SC_ZONE_BOUNDARY_ERROR;
    if (pointer === zoneSize) return NVME_SC_ZONE_FULL;
    if (inside !== pointer) return NVME_SC_ZONE_INVALID_WRITE;
    this.#written.set(zone, inside + length);
    return NVME_SC_SUCCESS;
  }
}
