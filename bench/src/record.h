/* What a test program tells the bench, written into a FIFO in one piece. */
#include <stdint.h>

enum moment { STARTED = 1, WROTE_ALL = 2 };

struct record {
	uint32_t service;
	uint32_t pid;
	uint32_t moment;
	uint32_t unused;
	uint64_t at_ns; /* CLOCK_MONOTONIC */
};
