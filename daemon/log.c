/*
 * Each record is built on the stack and leaves by one write(2). That is atomic between threads for
 * pipes up to PIPE_BUF and for files opened by one description, which is what stderr is; so there
 * is no lock that a thread about to abort could hold.
 */
#include "daemon/log.h"

#include "proto/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const struct {
	const char *word;
	int priority; /* of syslog(3), what the journal wants */
} levels[] = {
	[BN_LOG_ERROR] = { "error", 3 },
	[BN_LOG_WARN] = { "warn ", 4 },
	[BN_LOG_INFO] = { "info ", 6 },
	[BN_LOG_DEBUG] = { "debug", 7 },
};

/* The process has one stderr; this is the one place that remembers how to write to it. */
static _Atomic int current_level = BN_LOG_INFO;
static enum bn_log_style current_style = BN_LOG_TIMED;
static int current_fd = STDERR_FILENO;

enum bn_log_style bn_log_style_of(const char *journal_stream, int fd)
{
	struct stat about;
	char want[64];

	if (journal_stream == NULL || fstat(fd, &about) != 0) {
		return BN_LOG_TIMED;
	}
	snprintf(want, sizeof(want), "%ju:%ju", (uintmax_t)about.st_dev, (uintmax_t)about.st_ino);
	return strcmp(want, journal_stream) == 0 ? BN_LOG_JOURNAL : BN_LOG_TIMED;
}

void bn_log_start(enum bn_log_level level, enum bn_log_style style, int fd)
{
	current_style = style;
	current_fd = fd;
	bn_log_set_level(level);
}

void bn_log_set_level(enum bn_log_level level)
{
	bn_assert(level <= BN_LOG_DEBUG);
	atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum bn_log_level bn_log_get_level(void)
{
	return (enum bn_log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

/*
 * Escapes n bytes of `from` into out [room], terminated; returns the length. What does not fit is
 * cut and the end becomes "...". `all` also escapes the backslash: no two inputs look alike then.
 */
static size_t escape(char *out, size_t room, const unsigned char *from, size_t n, bool all)
{
	static const char hex[] = "0123456789abcdef";
	size_t used = 0;
	size_t cut = 0; /* where "..." may still be put */

	for (size_t i = 0; i < n; i++) {
		char unit[4];
		size_t length = 1;

		unit[0] = (char)from[i];
		if (from[i] < 0x20 || from[i] >= 0x7f) {
			memcpy(unit, "\\x", 2);
			unit[2] = hex[from[i] >> 4];
			unit[3] = hex[from[i] & 15];
			length = 4;
		} else if (all && from[i] == '\\') {
			memcpy(unit, "\\\\", 2);
			length = 2;
		}
		if (used + length + 1 > room) {
			memcpy(out + cut, "...", 4);
			return cut + 3;
		}
		memcpy(out + used, unit, length);
		used += length;
		if (used + 4 <= room) {
			cut = used;
		}
	}
	out[used] = '\0';
	return used;
}

const char *bn_log_escape(struct bn_log_field *field, const void *bytes, size_t n)
{
	escape(field->text, sizeof(field->text), bytes, n, true);
	return field->text;
}

static size_t prefix(char *out, size_t room, enum bn_log_level level)
{
	struct timespec now;
	struct tm parts;
	size_t used;

	if (current_style == BN_LOG_JOURNAL) {
		return (size_t)snprintf(out, room, "<%d>", levels[level].priority);
	}
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	used = strftime(out, room, "%Y-%m-%dT%H:%M:%S", &parts);
	used += (size_t)snprintf(out + used, room - used, ".%03ldZ %s ", now.tv_nsec / 1000000,
				 levels[level].word);
	return used;
}

__attribute__((format(printf, 2, 0))) static void record(enum bn_log_level level,
							 const char *format, va_list args)
{
	char text[BN_LOG_RECORD_BYTES];
	char line[BN_LOG_RECORD_BYTES];
	int saved = errno;
	size_t used;
	int n = vsnprintf(text, sizeof(text), format, args);

	if (n >= 0) {
		size_t length = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
		ssize_t written;

		used = prefix(line, sizeof(line), level);
		used += escape(line + used, sizeof(line) - used - 1, (unsigned char *)text, length,
			       false);
		line[used++] = '\n';
		do {
			written = write(current_fd, line, used);
		} while (written < 0 && errno == EINTR);
	}
	errno = saved;
}

void bn_log(enum bn_log_level level, const char *format, ...)
{
	va_list args;

	if (level > bn_log_get_level()) {
		return;
	}
	va_start(args, format);
	record(level, format, args);
	va_end(args);
}

void bn_log_limited(struct bn_log_limit *limit, enum bn_log_level level, const char *format, ...)
{
	struct timespec clock;
	uint64_t now;
	va_list args;

	if (level > bn_log_get_level()) {
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &clock);
	now = (uint64_t)clock.tv_sec * 1000000000u + (uint64_t)clock.tv_nsec;
	if (limit->used == 0 || now - limit->since_ns >= limit->interval_ns) {
		if (limit->held > 0) {
			bn_log(level, "(%" PRIu32 " records like the next were held back)",
			       limit->held);
		}
		limit->used = 0;
		limit->held = 0;
		limit->since_ns = now;
	}
	if (limit->used >= limit->burst) {
		limit->held++;
		return;
	}
	limit->used++;
	va_start(args, format);
	record(level, format, args);
	va_end(args);
}
