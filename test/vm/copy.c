/*
 * The competitor: copy from one drive to another with pread and pwrite, one thread, depth 1. The
 * buffer is mapped from MEMORY: p2pmem/allocate of a provider, or "host" for ordinary memory.
 *
 *   copy SOURCE DESTINATION MEMORY BYTES CHUNK
 *
 * Prints one line of JSON, or the failed call and its errno on stderr.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what, const char *path)
{
	fprintf(stderr, "{\"error\":%d,\"call\":\"%s\",\"path\":\"%s\"}\n", errno, what, path);
	exit(1);
}

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: copy SOURCE DESTINATION MEMORY BYTES CHUNK\n");
		return 2;
	}
	long bytes = atol(argv[4]), chunk = atol(argv[5]);
	int src = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (src < 0)
		die("open", argv[1]);
	int dst = open(argv[2], O_WRONLY | O_DIRECT | O_CLOEXEC);
	if (dst < 0)
		die("open", argv[2]);
	char *buffer;
	if (strcmp(argv[3], "host") == 0) {
		buffer = mmap(NULL, chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	} else {
		int memory = open(argv[3], O_RDWR | O_CLOEXEC);
		if (memory < 0)
			die("open", argv[3]);
		buffer = mmap(NULL, chunk, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	}
	if (buffer == MAP_FAILED)
		die("mmap", argv[3]);

	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (long done = 0; done < bytes;) {
		long want = bytes - done < chunk ? bytes - done : chunk;
		for (long got = 0; got < want;) {
			ssize_t n = pread(src, buffer + got, want - got, done + got);
			if (n < 0)
				die("pread", argv[1]);
			if (n == 0) {
				errno = ENODATA;
				die("pread", argv[1]);
			}
			got += n;
		}
		for (long put = 0; put < want;) {
			ssize_t n = pwrite(dst, buffer + put, want - put, done + put);
			if (n < 0)
				die("pwrite", argv[2]);
			put += n;
		}
		done += want;
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	double seconds = (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9;
	printf("{\"bytes\":%ld,\"chunk\":%ld,\"seconds\":%.6f}\n", bytes, chunk, seconds);
	return 0;
}
