#include "client/tool.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, SIGNAL_EXIT = 128, LOOK_NS = 50000000 };

static bool is_program(const char *path)
{
	struct stat about;

	return stat(path, &about) == 0 && S_ISREG(about.st_mode) && access(path, X_OK) == 0;
}

static bool beside_us(char *to, size_t size, const char *name)
{
	char own[PATH_BYTES];
	const ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
	char *slash;
	int length;

	if (n <= 0) {
		return false;
	}
	own[n] = '\0';
	slash = strrchr(own, '/');
	if (slash == NULL) {
		return false;
	}
	*slash = '\0';
	length = snprintf(to, size, "%s/%s", own, name);
	return length > 0 && (size_t)length < size && is_program(to);
}

enum bn_status bn_tool_find(char *to, size_t size, const char *name, const char *search,
			    struct bn_error *err)
{
	if (beside_us(to, size, name)) {
		return BN_OK;
	}
	while (search != NULL && *search != '\0') {
		const size_t n = strcspn(search, ":");
		const int length = snprintf(to, size, "%.*s/%s", (int)n, search, name);

		if (search[0] == '/' && length > 0 && (size_t)length < size && is_program(to)) {
			return BN_OK;
		}
		search += n + (search[n] == ':');
	}
	return bn_fail(err, BN_E_NOT_FOUND,
		       "%s is neither beside bnctl nor in PATH; it is built and installed with bnd",
		       name);
}

static pid_t start(const char *path, const char *const *argv)
{
	/* POSIX promises that execv() changes nothing, in prose only. */
	const union {
		const char *const *ours;
		char *const *its;
	} words = { argv };
	const pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		/* Our standard output is for the result alone. */
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execv(path, words.its);
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		_exit(127);
	}
	return pid;
}

int bn_tool_run(const char *path, const char *const *argv, bool (*stop)(void *who), void *who)
{
	const struct timespec look = { .tv_nsec = LOOK_NS };
	bool told = false;
	int status = 0;
	pid_t pid;

	fflush(NULL);
	pid = start(path, argv);
	if (pid < 0) {
		return -1;
	}
	/* Looking twenty times a second beats every race between a signal and a wait. */
	for (;;) {
		const pid_t ended = waitpid(pid, &status, WNOHANG);

		if (ended == pid) {
			break;
		} else if (ended < 0 && errno != EINTR) {
			return -1;
		}
		if (!told && stop != NULL && stop(who)) {
			kill(pid, SIGTERM);
			told = true;
		}
		nanosleep(&look, NULL);
	}
	return WIFSIGNALED(status) ? SIGNAL_EXIT + WTERMSIG(status) : WEXITSTATUS(status);
}
