/*
 * loop [-p PIPE_BYTES] [-k KEEP] TABLE: the bare loop that keepwell is measured against.
 *
 * The least that starts programs, starts them again and captures what they say: posix_spawn, one epoll, one signalfd, a
 * pipe a service that is spliced into its file, and rotation of the files by size. No containment, no limits, no memory of
 * what happened, no way to ask it anything. TABLE has a line a service: the log file, a tab, and the words of the command.
 * SIGTERM ends all services and, when the last is gone, the loop.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS = 15, ROTATE_AT = 10000000, SPLICE_AT_MOST = 1 << 20 };
#define SIGNALS UINT64_MAX

struct service {
	pid_t pid;
	int output;  /* the end that the loop reads */
	int input;   /* the end that the service writes, kept open across its restarts */
	int file;
	size_t size; /* of the file */
	char *path;
	char *words[WORDS + 1];
};

extern char **environ;
static struct service *services;
static size_t count, alive;
static int stopping, keep = 5;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void read_table(const char *name)
{
	FILE *table = fopen(name, "re");
	if (!table)
		die(name);
	char *line = NULL;
	size_t room = 0;
	while (getline(&line, &room, table) > 0) {
		services = realloc(services, (count + 1) * sizeof *services);
		if (!services)
			die("realloc");
		struct service *service = &services[count++];
		memset(service, 0, sizeof *service);
		service->path = strdup(strtok(line, "\t"));
		char *word;
		for (int i = 0; i < WORDS && (word = strtok(NULL, " \n")); i++)
			service->words[i] = strdup(word);
	}
	free(line);
	fclose(table);
}

static void open_file(struct service *service)
{
	/* Not O_APPEND: splice refuses such a file. */
	service->file = open(service->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (service->file < 0)
		die(service->path);
	service->size = 0;
}

static void rotate(struct service *service)
{
	char older[PATH_MAX], newer[PATH_MAX];
	for (int n = keep; n >= 1; n--) {
		snprintf(older, sizeof older, "%s.%d", service->path, n);
		if (n > 1)
			snprintf(newer, sizeof newer, "%s.%d", service->path, n - 1);
		else
			snprintf(newer, sizeof newer, "%s", service->path);
		if (rename(newer, older) < 0 && errno != ENOENT)
			die(newer);
	}
	close(service->file);
	open_file(service);
}

static void capture(struct service *service)
{
	ssize_t moved;
	do {
		if (service->size >= ROTATE_AT)
			rotate(service);
		size_t room = ROTATE_AT - service->size;
		size_t most = room < SPLICE_AT_MOST ? room : SPLICE_AT_MOST;
		moved = splice(service->output, NULL, service->file, NULL, most, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (moved > 0)
			service->size += (size_t)moved;
	} while (moved > 0);
	if (moved < 0 && errno != EAGAIN)
		die("splice");
}

static void start(struct service *service)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t none;
	sigemptyset(&none);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, service->input, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&files, service->input, STDERR_FILENO);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	int error = posix_spawn(&service->pid, service->words[0], &files, &attributes, service->words, environ);
	if (error) {
		errno = error;
		die(service->words[0]);
	}
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attributes);
	alive++;
}

static void reap(void)
{
	pid_t pid;
	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
		struct service *service = services;
		while (service->pid != pid)
			service++;
		alive--;
		if (!stopping)
			start(service);
	}
}

static void take_signals(int signals)
{
	struct signalfd_siginfo info;
	while (read(signals, &info, sizeof info) == sizeof info) {
		if (info.ssi_signo == SIGTERM && !stopping) {
			stopping = 1;
			for (size_t i = 0; i < count; i++)
				kill(services[i].pid, SIGTERM);
		}
	}
	reap();
}

static void watch(int epoll, int fd, uint64_t what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = what };
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

int main(int argc, char **argv)
{
	int option, pipe_bytes = 0;
	while ((option = getopt(argc, argv, "p:k:")) != -1) {
		if (option == 'p')
			pipe_bytes = atoi(optarg);
		else if (option == 'k')
			keep = atoi(optarg);
		else
			return 2;
	}
	if (optind + 1 != argc)
		return 2;
	read_table(argv[optind]);

	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);

	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	int signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	if (signals < 0 || epoll < 0)
		die("signalfd or epoll");
	watch(epoll, signals, SIGNALS);

	for (size_t i = 0; i < count; i++) {
		int ends[2];
		if (pipe2(ends, O_CLOEXEC) < 0)
			die("pipe2");
		if (pipe_bytes && fcntl(ends[1], F_SETPIPE_SZ, pipe_bytes) < 0)
			die("F_SETPIPE_SZ");
		services[i].output = ends[0];
		services[i].input = ends[1];
		open_file(&services[i]);
		watch(epoll, ends[0], i);
		start(&services[i]);
	}

	while (alive > 0) {
		struct epoll_event events[64];
		int ready = epoll_wait(epoll, events, 64, -1);
		for (int i = 0; i < ready; i++) {
			if (events[i].data.u64 == SIGNALS)
				take_signals(signals);
			else
				capture(&services[events[i].data.u64]);
		}
	}
	return 0;
}
