// The loop of `nop` over liburing: nop MODE BATCH ROUNDS
//
//   repeat ROUNDS times:  get and prepare BATCH entries,  submit and wait,  take BATCH
//
// Prints one line: the sum of all `user_data`, the nanoseconds of CPU time and of wall time from
// before the ring is made until after it is ended, and the version of liburing's headers.
#include <liburing.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void die(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, strerror(error));
	exit(1);
}

static int64_t nanoseconds(clockid_t clock)
{
	struct timespec time;
	clock_gettime(clock, &time);
	return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

// The set-up of `Mode` in `src/ways.rs`.
static struct io_uring_params params(const char *mode)
{
	struct io_uring_params params = {0};
	if (!strcmp(mode, "deferred")) {
		params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
			| IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL;
	} else if (!strcmp(mode, "sqpoll")) {
		params.flags = IORING_SETUP_SQPOLL;
		params.sq_thread_idle = 1000;
	} else if (strcmp(mode, "plain")) {
		die(mode, EINVAL);
	}
	return params;
}

static uint64_t run(struct io_uring *ring, unsigned batch, uint64_t rounds)
{
	uint64_t sum = 0;
	for (uint64_t round = 0; round < rounds; round++) {
		for (unsigned word = 0; word < batch; word++) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
			if (!sqe)
				die("io_uring_get_sqe", EAGAIN);
			io_uring_prep_nop(sqe);
			io_uring_sqe_set_data64(sqe, word);
		}
		int submitted = io_uring_submit_and_wait(ring, batch);
		if (submitted < 0)
			die("io_uring_submit_and_wait", -submitted);

		struct io_uring_cqe *cqe;
		unsigned head, taken = 0;
		io_uring_for_each_cqe(ring, head, cqe) {
			sum += cqe->user_data;
			taken++;
		}
		io_uring_cq_advance(ring, taken);
	}
	return sum;
}

int main(int count, char **words)
{
	if (count != 4) {
		fprintf(stderr, "usage: nop deferred|plain|sqpoll BATCH ROUNDS\n");
		return 2;
	}
	unsigned batch = strtoul(words[2], NULL, 10), entries = 128;
	uint64_t rounds = strtoull(words[3], NULL, 10);
	while (entries < batch)
		entries *= 2;

	int64_t cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
	int64_t wall = nanoseconds(CLOCK_MONOTONIC);
	struct io_uring ring;
	struct io_uring_params set_up = params(words[1]);
	int made = io_uring_queue_init_params(entries, &ring, &set_up);
	if (made < 0)
		die("io_uring_queue_init_params", -made);
	uint64_t sum = run(&ring, batch, rounds);
	io_uring_queue_exit(&ring);
	cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	wall = nanoseconds(CLOCK_MONOTONIC) - wall;

	printf("%llu %lld %lld ", (unsigned long long)sum, (long long)cpu, (long long)wall);
#ifdef IO_URING_VERSION_MAJOR
	printf("%d.%d\n", IO_URING_VERSION_MAJOR, IO_URING_VERSION_MINOR);
#else
	printf("before 2.4\n");
#endif
	return 0;
}
