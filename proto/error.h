/*
 * The error vocabulary: every failure in bnd, from a torn file to a full queue, is one of these
 * statuses, because every failure may end on the wire.
 *
 * It does not log, print, translate or allocate. Depends on nothing but libc; floor 0.
 */
#ifndef BN_PROTO_ERROR_H
#define BN_PROTO_ERROR_H

#include <stddef.h>
#include <stdint.h>

/*
 * X(symbol, wire code, wire word, sentence).
 * Codes follow HTTP so that an HTTP front maps them one to one; JSON-RPC negatives are protocol
 * faults only. Two symbols may share a code (413, 499, 503): the word tells them apart. Never
 * reuse a word; append only.
 */
#define BN_STATUS_TABLE(X)                                                                        \
	X(OK, 0, "ok", "success")                                                                 \
	X(E_PARSE, -32700, "parse_error", "the bytes are not MessagePack as we accept it")        \
	X(E_MESSAGE, -32600, "invalid_message", "not a MessagePack-RPC message")                  \
	X(E_METHOD, -32601, "unknown_method", "no such method")                                   \
	X(E_PARAMS, -32602, "invalid_params", "params must be an array holding at most one map")  \
	X(E_INVALID, 400, "invalid_request", "a parameter is missing, unknown or out of range")   \
	X(E_PERMISSION, 403, "permission_denied", "the caller may not do this")                   \
	X(E_NOT_FOUND, 404, "model_not_found", "no model of that name is configured")             \
	X(E_DEADLINE, 408, "deadline_exceeded", "the deadline passed before the work was done")   \
	X(E_CONFLICT, 409, "conflict", "the object is in a state that does not allow this")       \
	X(E_CONTEXT, 413, "context_length_exceeded", "prompt and answer do not fit the context")  \
	X(E_TOO_LARGE, 413, "message_too_large", "a message or file is larger than allowed")      \
	X(E_KERNEL, 422, "kernel_incompatible", "no kernel fits this model on this processor")    \
	X(E_QUEUE_FULL, 429, "client_queue_full", "this client has too many requests waiting")    \
	X(E_CANCELLED, 499, "cancelled", "the request was cancelled")                             \
	X(E_STALLED, 499, "client_stalled", "the client stopped reading")                         \
	X(E_INTERNAL, 500, "internal", "a fault in bnd itself")                                   \
	X(E_FORMAT, 500, "model_file_invalid", "the model file is damaged or not what it claims") \
	X(E_IO, 500, "io_error", "the operating system refused an operation on a file")           \
	X(E_NUMERIC, 500, "numeric_error", "the computation gave a value that is not a number")   \
	X(E_NOT_SUPPORTED, 501, "not_supported", "bnd does not do this")                          \
	X(E_OVERLOADED, 503, "overloaded", "the service has too much to do")                      \
	X(E_LOADING, 503, "loading", "the model is being loaded")                                 \
	X(E_DRAINING, 503, "shutting_down", "the service is shutting down")                       \
	X(E_MEMORY, 507, "insufficient_memory", "the memory budget does not allow this")          \
	X(E_CONFIG, 78, "config_error", "the configuration is wrong")                             \
	X(E_CONNECT, 69, "unavailable", "the daemon cannot be reached")

#define BN_STATUS_ENUM(symbol, code, word, sentence) BN_##symbol,
enum bn_status { BN_STATUS_TABLE(BN_STATUS_ENUM) BN_STATUS_COUNT };
#undef BN_STATUS_ENUM

enum {
	BN_ERROR_TEXT_BYTES = 320,
	BN_ERROR_DATA_MAX = 6,
	BN_ERROR_DATA_TEXT_BYTES = 96,
};

/* One machine-readable fact beside the sentence: the third element of a wire error. */
struct bn_error_data {
	const char *key;                     /* static string, e.g. "param", "need_bytes"      */
	int64_t number;                      /* value when text is empty                       */
	char text[BN_ERROR_DATA_TEXT_BYTES]; /* value when not empty; valid UTF-8              */
};

/* Lives on the caller's stack or inside the object that failed. Plain value, may be copied. */
struct bn_error {
	enum bn_status status;
	uint32_t n_data;
	char text[BN_ERROR_TEXT_BYTES]; /* one sentence in valid UTF-8, no newline, no full stop */
	struct bn_error_data data[BN_ERROR_DATA_MAX];
};

#define BN_MUST_USE __attribute__((warn_unused_result))

/*
 * Fills *err (NULL allowed) with a status and a printf-formatted sentence, dropping what was in
 * it, and returns the status: `return bn_fail(err, BN_E_FORMAT, "tensor '%s': ...", name);`.
 * Control characters and broken UTF-8 in the result become '?', so foreign bytes may be printed
 * into it. Over-long sentences are cut and end in "...". Any thread.
 */
enum bn_status bn_fail(struct bn_error *err, enum bn_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Puts a clause in front: "model 'x'" turns "bad magic" into "model 'x': bad magic".
 * Returns err->status (BN_E_INTERNAL for NULL) so a caller may `return bn_wrap(...)`. Any thread.
 */
enum bn_status bn_wrap(struct bn_error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Adds a fact; silently dropped when err is NULL or full. `key` must be a static string. */
void bn_error_number(struct bn_error *err, const char *key, int64_t number);
void bn_error_string(struct bn_error *err, const char *key, const char *text);

/* The wire code, word and sentence of a status. Never NULL; unknown values give "internal". */
int bn_status_code(enum bn_status status);
const char *bn_status_word(enum bn_status status);
const char *bn_status_sentence(enum bn_status status);

#endif
