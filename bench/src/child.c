/*
 * child FIFO SERVICE: a service that costs next to nothing.
 *
 * Its first act is to read the clock, so that the time is that of its first instruction and not of a libc that starts. It
 * has no libc at all: the guardian is measured, and not the loading of its services. Then it tells the bench, says one line
 * and waits to be ended.
 */
#include "record.h"

#if !defined(__x86_64__)
#error "child.c makes its system calls itself and knows x86-64 only"
#endif

enum { SYS_write = 1, SYS_open = 2, SYS_pause = 34, SYS_getpid = 39, SYS_clock_gettime = 228 };
enum { MONOTONIC = 1, WRITE_ONLY_NONBLOCKING = 04001 };

static long call(long number, long a, long b, long c)
{
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "0"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return result;
}

static uint32_t number_of(const char *digits)
{
	uint32_t number = 0;
	for (; *digits >= '0' && *digits <= '9'; digits++)
		number = number * 10 + (uint32_t)(*digits - '0');
	return number;
}

/* The stack as the kernel lays it: the count of arguments, then the arguments. */
__attribute__((used, noreturn)) static void begin(long *stack)
{
	struct { long seconds, nanoseconds; } now;
	call(SYS_clock_gettime, MONOTONIC, (long)&now, 0);

	char **arguments = (char **)(stack + 1);
	if (stack[0] > 2) {
		struct record record = {
			.service = number_of(arguments[2]),
			.pid = (uint32_t)call(SYS_getpid, 0, 0, 0),
			.moment = STARTED,
			.at_ns = (uint64_t)now.seconds * 1000000000u + (uint64_t)now.nanoseconds,
		};
		long fifo = call(SYS_open, (long)arguments[1], WRITE_ONLY_NONBLOCKING, 0);
		if (fifo >= 0)
			call(SYS_write, fifo, (long)&record, sizeof record);
	}
	call(SYS_write, 1, (long)"started\n", 8);
	for (;;)
		call(SYS_pause, 0, 0, 0);
}

__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call begin\n");
