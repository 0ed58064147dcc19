/*
 * Asks a kernel one question per line of standard input and answers each with one line:
 * "ok RESULT" or "err ERRNO". Plain node can neither mmap nor read into a mapping; a test in the
 * guest drives this program instead, and so needs nothing of the library it referees.
 *
 *   open H PATH FLAGS           FLAGS: ro|rw, then ,direct ,excl ,creat
 *   close H
 *   map M PATH LENGTH OFFSET shared|private
 *   alloc M LENGTH              host memory, page-aligned
 *   unmap M
 *   fill M OFFSET LENGTH SEED   a pattern that depends on SEED and position
 *   check M OFFSET LENGTH SEED  ok 0, or "differs POSITION"
 *   pread|pwrite H FILEOFFSET M OFFSET LENGTH
 *   preadv|pwritev H FILEOFFSET (M OFFSET LENGTH)...
 *   ioread|iowrite H NSID SLBA BLOCKS M OFFSET LENGTH    NVME_IOCTL_IO_CMD
 *   identify H M OFFSET                                  NVME_IOCTL_ADMIN_CMD, 4096 bytes
 *   uring_read|uring_write H FILEOFFSET M OFFSET LENGTH
 *   uring_cmd_read|uring_cmd_write H NSID SLBA BLOCKS M OFFSET LENGTH
 *   uring_register M OFFSET LENGTH                       as a fixed buffer
 *
 * H and M are small numbers that the caller chooses.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/nvme_ioctl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST 64

static int handles[MOST];
static struct {
	unsigned char *at;
	size_t length;
} memory[MOST];

struct ring {
	int fd;
	void *rings;
	struct io_uring_sqe *sqes;
	struct io_uring_params p;
};

static int ring_open(struct ring *r)
{
	memset(r, 0, sizeof(*r));
	r->p.flags = IORING_SETUP_SQE128 | IORING_SETUP_CQE32;
	r->fd = syscall(SYS_io_uring_setup, 4, &r->p);
	if (r->fd < 0)
		return -1;
	r->rings = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	r->sqes = mmap(NULL, 4 * 128, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQES);
	return 0;
}

static void ring_close(struct ring *r)
{
	munmap(r->rings, 65536);
	munmap(r->sqes, 4 * 128);
	close(r->fd);
}

/* Submit the entry that the caller wrote into sqes[0] and wait: its result, or -1 and errno. */
static long ring_run(struct ring *r)
{
	char *base = r->rings;
	unsigned *tail = (unsigned *)(base + r->p.sq_off.tail);
	unsigned *array = (unsigned *)(base + r->p.sq_off.array);
	array[*tail & 3] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return -1;
	struct io_uring_cqe *cqe = (struct io_uring_cqe *)(base + r->p.cq_off.cqes);
	if (cqe->res < 0) {
		errno = -cqe->res;
		return -1;
	}
	return cqe->res;
}

static unsigned char pattern(uint64_t seed, uint64_t position)
{
	uint64_t x = (position >> 3) * 0x9e3779b97f4a7c15ull + seed * 0xd1b54a32d192ed03ull;
	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 32;
	return x >> (8 * (position & 7));
}

static char *next(void)
{
	return strtok(NULL, " \n");
}

static long number(void)
{
	char *word = next();
	return word ? strtol(word, NULL, 0) : 0;
}

static unsigned slot(void)
{
	unsigned n = number();
	return n < MOST ? n : MOST - 1;
}

/* M OFFSET LENGTH: an address inside a mapping. Beyond its end is the asker's mistake, not a question. */
static int span(struct iovec *v)
{
	unsigned m = slot();
	size_t offset = number(), length = number();
	if (memory[m].at == NULL || offset + length > memory[m].length)
		return -1;
	v->iov_base = memory[m].at + offset;
	v->iov_len = length;
	return 0;
}

static long answer(char *word)
{
	struct iovec v[16];
	if (strcmp(word, "open") == 0) {
		unsigned h = slot();
		char *path = next(), *flags = next();
		int how = O_CLOEXEC;
		how |= strncmp(flags, "ro", 2) == 0 ? O_RDONLY : O_RDWR;
		how |= strstr(flags, "direct") ? O_DIRECT : 0;
		how |= strstr(flags, "excl") ? O_EXCL : 0;
		how |= strstr(flags, "creat") ? O_CREAT : 0;
		int fd = open(path, how, 0600);
		if (fd < 0)
			return -1;
		handles[h] = fd;
		return 0;
	}
	if (strcmp(word, "close") == 0) {
		unsigned h = slot();
		int result = close(handles[h]);
		handles[h] = -1;
		return result;
	}
	if (strcmp(word, "map") == 0) {
		unsigned m = slot();
		char *path = next();
		size_t length = number();
		off_t offset = number();
		int kind = strcmp(next(), "private") == 0 ? MAP_PRIVATE : MAP_SHARED;
		int fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return -1;
		void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, kind, fd, offset);
		int saved = errno;
		close(fd);
		errno = saved;
		if (at == MAP_FAILED)
			return -1;
		memory[m].at = at;
		memory[m].length = length;
		return 0;
	}
	if (strcmp(word, "alloc") == 0) {
		unsigned m = slot();
		size_t length = number();
		void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (at == MAP_FAILED)
			return -1;
		memory[m].at = at;
		memory[m].length = length;
		return 0;
	}
	if (strcmp(word, "unmap") == 0) {
		unsigned m = slot();
		if (memory[m].at == NULL)
			return -2;
		int result = munmap(memory[m].at, memory[m].length);
		memory[m].at = NULL;
		return result;
	}
	if (strcmp(word, "fill") == 0) {
		if (span(v) < 0)
			return -2;
		unsigned char *at = v->iov_base;
		uint64_t seed = number();
		for (size_t i = 0; i < v->iov_len; i++)
			((volatile unsigned char *)at)[i] = pattern(seed, i);
		return 0;
	}
	if (strcmp(word, "check") == 0) {
		if (span(v) < 0)
			return -2;
		unsigned char *at = v->iov_base;
		uint64_t seed = number();
		for (size_t i = 0; i < v->iov_len; i++) {
			if (((volatile unsigned char *)at)[i] != pattern(seed, i)) {
				printf("differs %zu\n", i);
				return -3;
			}
		}
		return 0;
	}
	if (strcmp(word, "pread") == 0 || strcmp(word, "pwrite") == 0) {
		int fd = handles[slot()];
		off_t offset = number();
		if (span(v) < 0)
			return -2;
		if (word[1] == 'r')
			return pread(fd, v->iov_base, v->iov_len, offset);
		return pwrite(fd, v->iov_base, v->iov_len, offset);
	}
	if (strcmp(word, "preadv") == 0 || strcmp(word, "pwritev") == 0) {
		int fd = handles[slot()], n = 0;
		off_t offset = number();
		while (n < 16 && span(&v[n]) == 0)
			n++;
		return word[1] == 'r' ? preadv(fd, v, n, offset) : pwritev(fd, v, n, offset);
	}
	int uring = strncmp(word, "uring_cmd_", 10) == 0;
	if (uring || strcmp(word, "ioread") == 0 || strcmp(word, "iowrite") == 0) {
		int fd = handles[slot()];
		unsigned nsid = number();
		uint64_t slba = number();
		unsigned blocks = number();
		if (span(v) < 0)
			return -2;
		char *verb = word + (uring ? 10 : 2);
		unsigned opcode = strcmp(verb, "read") == 0 ? 2 : 1;
		if (!uring) {
			struct nvme_passthru_cmd c = {
				.opcode = opcode, .nsid = nsid, .addr = (uintptr_t)v->iov_base, .data_len = v->iov_len,
				.cdw10 = (uint32_t)slba, .cdw11 = slba >> 32, .cdw12 = blocks - 1,
			};
			int status = ioctl(fd, NVME_IOCTL_IO_CMD, &c);
			if (status > 0) {
				printf("status %d\n", status);
				return -3;
			}
			return status;
		}
		struct ring r;
		if (ring_open(&r) < 0)
			return -1;
		memset(r.sqes, 0, 128);
		r.sqes->opcode = IORING_OP_URING_CMD;
		r.sqes->fd = fd;
		r.sqes->cmd_op = NVME_URING_CMD_IO;
		struct nvme_uring_cmd *c = (struct nvme_uring_cmd *)((char *)r.sqes + 48);
		c->opcode = opcode;
		c->nsid = nsid;
		c->addr = (uintptr_t)v->iov_base;
		c->data_len = v->iov_len;
		c->cdw10 = (uint32_t)slba;
		c->cdw11 = slba >> 32;
		c->cdw12 = blocks - 1;
		long result = ring_run(&r);
		int saved = errno;
		ring_close(&r);
		errno = saved;
		if (result > 0) {
			printf("status %ld\n", result);
			return -3;
		}
		return result;
	}
	if (strcmp(word, "identify") == 0) {
		int fd = handles[slot()];
		unsigned m = slot();
		size_t offset = number();
		if (memory[m].at == NULL)
			return -2;
		struct nvme_passthru_cmd c = {
			.opcode = 6, .addr = (uintptr_t)(memory[m].at + offset), .data_len = 4096, .cdw10 = 1,
		};
		return ioctl(fd, NVME_IOCTL_ADMIN_CMD, &c);
	}
	if (strcmp(word, "uring_read") == 0 || strcmp(word, "uring_write") == 0) {
		int fd = handles[slot()];
		off_t offset = number();
		if (span(v) < 0)
			return -2;
		struct ring r;
		if (ring_open(&r) < 0)
			return -1;
		memset(r.sqes, 0, 128);
		r.sqes->opcode = word[6] == 'r' ? IORING_OP_READ : IORING_OP_WRITE;
		r.sqes->fd = fd;
		r.sqes->off = offset;
		r.sqes->addr = (uintptr_t)v->iov_base;
		r.sqes->len = v->iov_len;
		long result = ring_run(&r);
		int saved = errno;
		ring_close(&r);
		errno = saved;
		return result;
	}
	if (strcmp(word, "uring_register") == 0) {
		if (span(v) < 0)
			return -2;
		struct ring r;
		if (ring_open(&r) < 0)
			return -1;
		long result = syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_BUFFERS, v, 1);
		int saved = errno;
		ring_close(&r);
		errno = saved;
		return result;
	}
	return -2;
}

int main(void)
{
	char line[4096];
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int h = 0; h < MOST; h++)
		handles[h] = -1;
	while (fgets(line, sizeof(line), stdin)) {
		char *word = strtok(line, " \n");
		if (word == NULL)
			continue;
		errno = 0;
		long result = answer(word);
		if (result >= 0)
			printf("ok %ld\n", result);
		else if (result == -1)
			printf("err %d\n", errno);
		else if (result == -2)
			printf("bad question\n");
	}
	return 0;
}
