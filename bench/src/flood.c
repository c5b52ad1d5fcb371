/*
 * flood FIFO GO BYTES block|line: a service that writes numbered lines as fast as it can.
 *
 * It waits until the bench opens the FIFO named GO, so that the guardian's own start is not counted. Every line has LINE
 * bytes and begins with its number in twelve digits; block mode writes as many whole lines as fit into 64 KiB with one
 * write(2), line mode one.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "record.h"

enum { LINE = 120, DIGITS = 12, BLOCK = 65536 / LINE };

static void tell(const char *fifo, enum moment moment)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	struct record record = {
		.pid = (uint32_t)getpid(),
		.moment = moment,
		.at_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
	};
	int fd = open(fifo, O_WRONLY | O_NONBLOCK);
	if (fd < 0 || write(fd, &record, sizeof record) != sizeof record)
		_exit(3);
	close(fd);
}

static void write_all(const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t written = write(STDOUT_FILENO, bytes, length);
		if (written < 0) {
			perror("flood: stdout");
			_exit(2);
		}
		bytes += written;
		length -= (size_t)written;
	}
}

static void number(char *line, unsigned long n)
{
	for (int digit = DIGITS - 1; digit >= 0; digit--, n /= 10)
		line[digit] = (char)('0' + n % 10);
}

int main(int argc, char **argv)
{
	static char block[BLOCK * LINE];
	if (argc != 5) {
		fputs("flood FIFO GO BYTES block|line\n", stderr);
		return 2;
	}
	unsigned long lines = strtoul(argv[3], NULL, 10) / LINE;
	unsigned long per_write = strcmp(argv[4], "line") == 0 ? 1 : BLOCK;
	for (int i = 0; i < BLOCK * LINE; i++) {
		int column = i % LINE;
		block[i] = column == DIGITS ? ' ' : column == LINE - 1 ? '\n' : (char)('a' + column % 26);
	}

	int go = open(argv[2], O_RDONLY); /* returns when the bench has opened its end */
	if (go < 0) {
		perror(argv[2]);
		return 2;
	}
	tell(argv[1], STARTED);
	for (unsigned long next = 0; next < lines;) {
		unsigned long count = 0;
		for (; count < per_write && next < lines; count++, next++)
			number(block + count * LINE, next);
		write_all(block, count * LINE);
	}
	tell(argv[1], WROTE_ALL);
	for (;;)
		pause();
}
