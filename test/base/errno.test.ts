/** Every errno that a filesystem, a block device or a call of this package can end with is named and explained. */
import { constants } from 'node:os';
import t from 'tap';
import { ERRNO_ROWS, type ErrnoName, errnoName, errnoOf } from '../../lib/base/errno.js';
import { ERROR_CODES, errnoError, hostError } from '../../lib/base/errors.js';

/** By whom they come; asked of Linux's block layer (blk_errors[]), its filesystems, and open, read, write and their like. */
const CAN_COME = {
  'block layer': [
    ...['EOPNOTSUPP', 'ETIMEDOUT', 'ENOSPC', 'ENOLINK', 'EREMOTEIO', 'EBADE', 'ENODATA', 'EILSEQ', 'ENOMEM'],
    ...[
      'EBUSY',
      'EAGAIN',
      'ENODEV',
      'EREMCHG',
      'ETOOMANYREFS',
      'EOVERFLOW',
      'ETIME',
      'EINVAL',
      'EIO',
      'ENXIO',
    ],
    ...['ENOMEDIUM', 'EMEDIUMTYPE', 'EROFS', 'ENOTBLK'],
  ],
  filesystems: [
    ...['EDQUOT', 'ESTALE', 'EUCLEAN', 'EBADMSG', 'EXDEV', 'EFBIG', 'ENOKEY', 'EKEYEXPIRED', 'EKEYREVOKED'],
    ...[
      'EKEYREJECTED',
      'ENOLCK',
      'EDEADLK',
      'EPROTO',
      'ENAMETOOLONG',
      'ELOOP',
      'EISDIR',
      'ENOTDIR',
      'EEXIST',
    ],
    ...[
      'ENETDOWN',
      'ENETUNREACH',
      'ECONNABORTED',
      'ECONNRESET',
      'ENOBUFS',
      'ENOTCONN',
      'ESHUTDOWN',
      'EHOSTDOWN',
    ],
    ...['ECONNREFUSED', 'EHOSTUNREACH'],
  ],
  calls: [
    ...[
      'EPERM',
      'ENOENT',
      'EINTR',
      'EBADF',
      'EACCES',
      'EFAULT',
      'ENFILE',
      'EMFILE',
      'ENOTTY',
      'ETXTBSY',
      'ESPIPE',
    ],
    ...['EPIPE', 'ERANGE', 'ENOSYS', 'ECANCELED', 'EHWPOISON'],
  ],
};

t.test('the list, pinned', async (t) => {
  const wanted = Object.values(CAN_COME).flat().sort();
  t.same(Object.keys(ERRNO_ROWS).sort(), wanted);
});

t.test('each has Linux’s number, words of its own in the message, a cause and a remedy', async (t) => {
  for (const name of Object.keys(ERRNO_ROWS) as ErrnoName[]) {
    const number = ERRNO_ROWS[name].errno;
    if (process.platform === 'linux' && name in constants.errno) {
      t.equal(number, constants.errno[name as keyof typeof constants.errno], name);
    }
    t.equal(errnoName(-number), name);
    const error = errnoError(-number, 'write', '/x', { offset: 512 });
    t.match(error, { code: name, errno: -number, syscall: 'write', path: '/x', offset: 512 });
    t.match(error.message, new RegExp(`^${name}: [a-zA-Z].*, write '/x' at offset 512$`));
    t.notMatch(error.message, /system error/, `${name} has words`);
    const { cause, remedy } = ERROR_CODES[name];
    t.ok(cause.length > 10 && remedy.length > 10, `${name} has advice`);
    t.equal(errnoError(-number, 'read', '/x').hint, remedy);
  }
});

t.test('a drive that could not store is not advised like one that could not read', async (t) => {
  const hint = (syscall: string) => errnoError(-61, syscall, '/x').hint;
  t.equal(hint('read'), ERROR_CODES.ENODATA.remedy);
  for (const syscall of ['write', 'fsync']) t.match(hint(syscall), /could not store these blocks/);
  t.equal(errnoError(-5, 'write', '/x').hint, ERROR_CODES.EIO.remedy);
});

t.test('a number that has no name here stays readable', async (t) => {
  const error = errnoError(-4095, 'read', '/x');
  t.match(error, { code: 'EIO', errno: -4095, message: "errno 4095: system error 4095, read '/x'" });
});

t.test('a number of the other sign is no errno', async (t) => {
  for (const number of [5, 0, Number.NaN]) t.throws(() => errnoError(number, 'read', '/x'), RangeError);
});

t.test('what is said besides the row’s text; no path, no path in it', async (t) => {
  const busy = errnoError(-16, 'open', '/x', { because: 'mounted at /mnt' });
  t.match(busy, { code: 'EBUSY', message: "EBUSY: device or resource busy, open '/x': mounted at /mnt" });
  const mapped = errnoError(-22, 'mmap', null, { what: '8+8 is outside it' });
  t.equal(mapped.message, 'EINVAL: 8+8 is outside it, mmap');
  t.notOk('path' in mapped);
});

t.test('an error of node:fs has the number of Linux, whatever the platform gave it', async (t) => {
  const cause = Object.assign(new Error('x'), { code: 'ENOSPC', errno: -4055 });
  const message = "ENOSPC: no space left on device, write '/x'";
  t.match(hostError(cause, 'write', '/x'), { code: 'ENOSPC', errno: -28, message, cause });
  const strange = Object.assign(new Error('so strange'), { code: 'ERR_FS_EISDIR' });
  t.match(hostError(strange, 'write', '/x'), { code: 'EIO', message: "EIO: so strange, write '/x'" });
});

t.test('what node:fs failed with, by its code', async (t) => {
  t.equal(errnoOf(Object.assign(new Error(), { code: 'ENOSPC', errno: -28 })), 28);
  t.equal(errnoOf(Object.assign(new Error(), { code: 'ENOSPC' })), 28, 'Deno gives no number for writing');
  t.equal(
    errnoOf(Object.assign(new Error(), { code: 'EOPNOTSUPP', errno: -102 })),
    95,
    "macOS's numbers are others",
  );
  t.equal(errnoOf(Object.assign(new Error(), { code: 'EMULTIHOP', errno: -72 })), 72, 'one without a row');
  t.equal(errnoOf(new Error('what is no system error')), 5);
});
