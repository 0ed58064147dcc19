/*
 * A plain copy through io_uring: one thread, one ring, DEPTH buffers, each of which is read into and then written from. Beside
 * fio, whose reads and writes do not wait for each other, it shows what it costs that in a copy they do.
 *
 *   ring-copy SOURCE DESTINATION BYTES CHUNK DEPTH [OFFSET]
 *
 * BYTES must be a multiple of CHUNK; OFFSET is where both ends begin. Prints one line of JSON: seconds, and seconds of CPU
 * time, of the copy alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MOST 256

static int ring, source, destination;
static unsigned *sq_tail, sq_mask, *cq_head, *cq_tail, cq_mask, prepared;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static char *memory;
static long chunk, from, offsets[MOST];
static int writing[MOST];

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static void *map(size_t bytes, int flags, int fd, off_t offset)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_POPULATE, fd, offset);
	if (at == MAP_FAILED)
		die("mmap");
	return at;
}

static void open_ring(void)
{
	struct io_uring_params p = { .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN };
	ring = syscall(__NR_io_uring_setup, MOST, &p);
	if (ring < 0 && errno == EINVAL) { /* before 6.1 */
		p = (struct io_uring_params){ 0 };
		ring = syscall(__NR_io_uring_setup, MOST, &p);
	}
	if (ring < 0)
		die("io_uring_setup");
	char *sq = map(p.sq_off.array + p.sq_entries * sizeof(unsigned), MAP_SHARED, ring, IORING_OFF_SQ_RING);
	char *cq = map(p.cq_off.cqes + p.cq_entries * sizeof *cqes, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	sqes = map(p.sq_entries * sizeof *sqes, MAP_SHARED, ring, IORING_OFF_SQES);
	sq_tail = (unsigned *)(sq + p.sq_off.tail);
	sq_mask = *(unsigned *)(sq + p.sq_off.ring_mask);
	for (unsigned i = 0; i < p.sq_entries; i++)
		((unsigned *)(sq + p.sq_off.array))[i] = i;
	cq_head = (unsigned *)(cq + p.cq_off.head);
	cq_tail = (unsigned *)(cq + p.cq_off.tail);
	cq_mask = *(unsigned *)(cq + p.cq_off.ring_mask);
	cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
}

static void prepare(int slot)
{
	struct io_uring_sqe *sqe = &sqes[*sq_tail & sq_mask];
	memset(sqe, 0, sizeof *sqe);
	sqe->opcode = writing[slot] ? IORING_OP_WRITE : IORING_OP_READ;
	sqe->fd = writing[slot] ? destination : source;
	sqe->addr = (unsigned long)(memory + slot * chunk);
	sqe->len = chunk;
	sqe->off = from + offsets[slot];
	sqe->user_data = slot;
	__atomic_store_n(sq_tail, *sq_tail + 1, __ATOMIC_RELEASE);
	prepared++;
}

static void copy(long bytes, int depth)
{
	long next = 0, done = 0;
	for (int slot = 0; slot < depth && next < bytes; slot++, next += chunk) {
		offsets[slot] = next;
		prepare(slot);
	}
	while (done < bytes) {
		int taken = syscall(__NR_io_uring_enter, ring, prepared, 1, IORING_ENTER_GETEVENTS, NULL, 0);
		if (taken < 0 && errno != EINTR)
			die("io_uring_enter");
		if (taken > 0)
			prepared -= taken;
		unsigned head = *cq_head;
		for (; head != __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE); head++) {
			struct io_uring_cqe *cqe = &cqes[head & cq_mask];
			int slot = cqe->user_data;
			if (cqe->res != chunk) {
				errno = cqe->res < 0 ? -cqe->res : EIO;
				die(writing[slot] ? "write" : "read");
			}
			writing[slot] = !writing[slot];
			if (!writing[slot]) {
				done += chunk;
				if (next >= bytes)
					continue;
				offsets[slot] = next;
				next += chunk;
			}
			prepare(slot);
		}
		__atomic_store_n(cq_head, head, __ATOMIC_RELEASE);
	}
}

static double seconds(struct timeval t)
{
	return t.tv_sec + t.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
	int told = argc == 6 || argc == 7;
	long bytes = told ? atol(argv[3]) : 0;
	int depth = told ? atoi(argv[5]) : 0;
	chunk = told ? atol(argv[4]) : 0;
	from = argc == 7 ? atol(argv[6]) : 0;
	if (bytes < 1 || chunk < 1 || bytes % chunk != 0 || depth < 1 || depth > MOST) {
		fprintf(stderr, "usage: ring-copy SOURCE DESTINATION BYTES CHUNK DEPTH [OFFSET]\n");
		return 2;
	}
	source = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
	destination = open(argv[2], O_RDWR | O_DIRECT | O_CLOEXEC);
	if (source < 0 || destination < 0)
		die("open");
	open_ring();
	memory = map(depth * chunk, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	struct rusage before, after;
	struct timespec began, ended;
	getrusage(RUSAGE_SELF, &before);
	clock_gettime(CLOCK_MONOTONIC, &began);
	copy(bytes, depth);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	getrusage(RUSAGE_SELF, &after);
	double user = seconds(after.ru_utime) - seconds(before.ru_utime);
	printf("{\"seconds\":%.6f,\"userCpu\":%.6f,\"cpu\":%.6f}\n",
	       (ended.tv_sec - began.tv_sec) + (ended.tv_nsec - began.tv_nsec) / 1e9, user,
	       user + seconds(after.ru_stime) - seconds(before.ru_stime));
	return 0;
}
