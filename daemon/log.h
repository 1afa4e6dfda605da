/*
 * The daemon's voice: one record, one line, on stderr, at four levels.
 *
 * It does not open files, rotate, or speak to syslog: stderr belongs to whoever started us, and
 * under systemd that is the journal. It never carries a prompt or generated text: no caller may
 * pass one, and a test greps for it.
 *
 * Whatever a peer or a file chose (names, paths, error texts) may hold control bytes. Every byte
 * of a record outside printable ASCII is written as \xNN, so no field can forge a second record
 * or move a terminal's cursor. Foreign bytes without a terminator go through BN_LOG_BYTES.
 *
 * Level, style and descriptor are process-wide, set by main before the second thread starts; the
 * level may change later. A record is one write(2) of at most 2 KiB, so records of several
 * threads do not mix and no lock is needed.
 */
#ifndef BN_DAEMON_LOG_H
#define BN_DAEMON_LOG_H

#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The order is that of the words of `log.level` in the configuration. */
enum bn_log_level {
	BN_LOG_ERROR, /* something is broken and somebody should look */
	BN_LOG_WARN,  /* something was refused or is getting short    */
	BN_LOG_INFO,  /* what an operator wants to read afterwards    */
	BN_LOG_DEBUG, /* what a developer wants while looking         */
};

enum bn_log_style {
	BN_LOG_TIMED,   /* 2025-11-22T15:04:05.123Z info  text */
	BN_LOG_JOURNAL, /* <6>text: the journal adds the time  */
};

enum {
	BN_LOG_FIELD_BYTES = 256,   /* of one foreign field, escapes included */
	BN_LOG_RECORD_BYTES = 2048, /* of one record, newline included        */
};

/* Room for one escaped field. */
struct bn_log_field {
	char text[BN_LOG_FIELD_BYTES + 1];
};

/*
 * Holds back a record that repeats: at most `burst` in `interval_ns`, then silence until the
 * interval ends; the next one let through says how many were held back. Embed one in the object
 * that may repeat itself; zero all but the first two. Owned by one thread.
 */
struct bn_log_limit {
	uint64_t interval_ns;
	uint32_t burst;
	uint32_t used;
	uint32_t held;
	uint64_t since_ns;
};

/*
 * The style for a descriptor: BN_LOG_JOURNAL when `journal_stream` (the value of $JOURNAL_STREAM,
 * or NULL) names the device and inode of fd, else BN_LOG_TIMED. BN_ON_ANY.
 */
enum bn_log_style bn_log_style_of(const char *journal_stream, int fd);

/* Sets level, style and descriptor (not owned). Before other threads start. Without it records
 * of level info and worse go to fd 2, timed. */
void bn_log_start(enum bn_log_level level, enum bn_log_style style, int fd);

/* Changes or tells the level. BN_ON_ANY. */
void bn_log_set_level(enum bn_log_level level);
enum bn_log_level bn_log_get_level(void);

/*
 * Writes one record if the level asks for it. Over-long records end in "...". Failures to write
 * are ignored: there is nobody left to tell. Keeps errno. BN_ON_ANY.
 */
void bn_log(enum bn_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same under a limit. Thread: the owner of the limit. */
void bn_log_limited(struct bn_log_limit *limit, enum bn_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Escapes n foreign bytes into *field and returns field->text: printable ASCII stays, a backslash
 * becomes \\, all else \xNN; cut at BN_LOG_FIELD_BYTES with "...". BN_ON_ANY.
 */
const char *bn_log_escape(struct bn_log_field *field, const void *bytes, size_t n);

/* An argument for %s made of foreign bytes; lives to the end of the enclosing block. */
#define BN_LOG_BYTES(bytes, n) bn_log_escape(&(struct bn_log_field){ { 0 } }, (bytes), (n))

#endif
