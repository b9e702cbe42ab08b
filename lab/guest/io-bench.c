/* Measures how fast a block device is for a guest's programs: keeps a number of O_DIRECT requests
 * in flight for some seconds. It uses kernel AIO, because io_uring is more than this needs, and
 * threads would measure the scheduler.
 *
 *   io-bench DEVICE random-read|read|write BLOCK_BYTES DEPTH SECONDS [REQUESTS]
 *
 * stops after so many seconds, or once so many requests are done, and prints one line of JSON:
 * {"requests":N,"seconds":S} */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* xorshift64: block numbers need only be spread out, and be the same in every run. */
static uint64_t next_random(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

int main(int argc, char **argv)
{
	if (argc != 6 && argc != 7)
		errx(2, "usage: io-bench DEVICE random-read|read|write BLOCK_BYTES DEPTH SECONDS [REQUESTS]");

	const int is_write = strcmp(argv[2], "write") == 0;
	const int is_random = strcmp(argv[2], "random-read") == 0;
	const size_t block = strtoul(argv[3], NULL, 10);
	const unsigned depth = strtoul(argv[4], NULL, 10);
	const double limit = strtod(argv[5], NULL);
	const uint64_t most = argc == 7 ? strtoull(argv[6], NULL, 10) : UINT64_MAX;

	const int fd = open(argv[1], (is_write ? O_RDWR : O_RDONLY) | O_DIRECT);
	if (fd < 0)
		err(1, "%s", argv[1]);

	uint64_t bytes;
	if (ioctl(fd, BLKGETSIZE64, &bytes))
		err(1, "BLKGETSIZE64");
	const uint64_t blocks = bytes / block;
	if (blocks == 0)
		errx(1, "%s is smaller than a block", argv[1]);

	char *data;
	if (posix_memalign((void **)&data, 4096, block * depth))
		errx(1, "no memory for %u blocks of %zu bytes", depth, block);
	memset(data, 0xa5, block * depth);

	aio_context_t context = 0;
	if (syscall(SYS_io_setup, depth, &context))
		err(1, "io_setup");
	struct iocb *request = calloc(depth, sizeof(*request));
	struct io_event *done = calloc(depth, sizeof(*done));
	unsigned *idle = calloc(depth, sizeof(*idle));
	if (!request || !done || !idle)
		errx(1, "no memory");

	unsigned idle_count = 0;
	while (idle_count < depth) {
		idle[idle_count] = idle_count;
		idle_count++;
	}

	uint64_t started = 0, requests = 0, sequential = 0;
	const double begin = now();
	double end = begin;

	do {
		while (idle_count > 0 && started < most && end - begin < limit) {
			const unsigned i = idle[--idle_count];
			struct iocb *one = &request[i];

			*one = (struct iocb){
				.aio_data = i,
				.aio_fildes = fd,
				.aio_lio_opcode = is_write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
				.aio_buf = (uintptr_t)(data + i * block),
				.aio_nbytes = block,
				.aio_offset = (is_random ? next_random() : sequential++) % blocks * block,
			};
			if (syscall(SYS_io_submit, context, 1, &one) != 1)
				err(1, "io_submit");
			started++;
		}
		const long events = syscall(SYS_io_getevents, context, 1, depth, done, NULL);
		if (events < 0)
			err(1, "io_getevents");
		for (long e = 0; e < events; e++) {
			if (done[e].res != (int64_t)block)
				errx(1, "a request returned %lld", (long long)done[e].res);
			idle[idle_count++] = done[e].data;
			requests++;
		}
		end = now();
	} while (idle_count < depth || (started < most && end - begin < limit));

	if (is_write && fsync(fd))
		err(1, "fsync");
	printf("{\"requests\":%llu,\"seconds\":%.6f}\n", (unsigned long long)requests, now() - begin);
	return 0;
}
