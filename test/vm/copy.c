/*
 * The competitor: copy from one drive to another with pread and pwrite, one thread, depth 1. The
 * buffer is mapped from MEMORY: p2pmem/allocate of a provider, or "host" for ordinary memory.
 * With THREADS (at most 64) each thread copies every THREADS-th chunk through a buffer of its own: what
 * depth is worth on this machine to a program without overhead.
 *
 *   copy SOURCE DESTINATION MEMORY BYTES CHUNK [THREADS]
 *
 * Prints one line of JSON, or the failed call and its errno on stderr.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const char *source, *destination;
static int src, dst;
static long bytes, chunk, threads = 1;

static void die(const char *what, const char *path)
{
	fprintf(stderr, "{\"error\":%d,\"call\":\"%s\",\"path\":\"%s\"}\n", errno, what, path);
	exit(1);
}

static char *map(const char *memory)
{
	char *buffer;
	if (strcmp(memory, "host") == 0) {
		buffer = mmap(NULL, chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	} else {
		int fd = open(memory, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			die("open", memory);
		buffer = mmap(NULL, chunk, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (buffer != MAP_FAILED)
			close(fd);
	}
	if (buffer == MAP_FAILED)
		die("mmap", memory);
	return buffer;
}

struct part {
	long first;
	char *buffer;
	pthread_t thread;
};

static void *copy(void *argument)
{
	struct part *part = argument;
	for (long done = part->first; done < bytes; done += threads * chunk) {
		long want = bytes - done < chunk ? bytes - done : chunk;
		for (long got = 0; got < want;) {
			ssize_t n = pread(src, part->buffer + got, want - got, done + got);
			if (n < 0)
				die("pread", source);
			if (n == 0) {
				errno = ENODATA;
				die("pread", source);
			}
			got += n;
		}
		for (long put = 0; put < want;) {
			ssize_t n = pwrite(dst, part->buffer + put, want - put, done + put);
			if (n < 0)
				die("pwrite", destination);
			put += n;
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc == 7)
		threads = atol(argv[6]);
	if (argc < 6 || argc > 7 || threads < 1 || threads > 64) {
		fprintf(stderr, "usage: copy SOURCE DESTINATION MEMORY BYTES CHUNK [THREADS]\n");
		return 2;
	}
	source = argv[1];
	destination = argv[2];
	bytes = atol(argv[4]);
	chunk = atol(argv[5]);
	src = open(source, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (src < 0)
		die("open", source);
	dst = open(destination, O_WRONLY | O_DIRECT | O_CLOEXEC);
	if (dst < 0)
		die("open", destination);
	struct part parts[64];
	for (long i = 0; i < threads; i++) {
		parts[i].first = i * chunk;
		parts[i].buffer = map(argv[3]);
	}

	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (long i = 1; i < threads; i++) {
		errno = pthread_create(&parts[i].thread, NULL, copy, &parts[i]);
		if (errno != 0)
			die("pthread_create", source);
	}
	copy(&parts[0]);
	for (long i = 1; i < threads; i++)
		pthread_join(parts[i].thread, NULL);
	clock_gettime(CLOCK_MONOTONIC, &b);
	double seconds = (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9;
	printf("{\"bytes\":%ld,\"chunk\":%ld,\"seconds\":%.6f}\n", bytes, chunk, seconds);
	return 0;
}
