/*
 * libbnclient: talk to bnd from a C program.
 *
 * A client is one connection to the daemon's Unix socket and may have many calls in flight. There
 * are two ways to use it: bn_client_call() blocks until one call is answered; bn_client_start(),
 * bn_client_fd() and bn_client_dispatch() fit into any event loop. Methods, parameters and results
 * are the protocol's own words (docs/protocol.md, bnd-protocol(7)); this library moves them and
 * hides nothing.
 *
 * It starts no threads, installs no signal handlers, prints nothing, never calls exit() and keeps
 * no global state. A client belongs to one thread at a time. Text is UTF-8.
 *
 *     struct bn_client *c;
 *     struct bn_client_params *p = bn_client_params_new();
 *     struct bn_client_reply r;
 *
 *     bn_client_open(&c, NULL);
 *     bn_client_str(p, "model", "storyteller");
 *     bn_client_str(p, "prompt", "Once upon a time");
 *     if (bn_client_call(c, "completions", p, NULL, &r) == BN_CLIENT_OK) {
 *             struct bn_client_text t = bn_client_text(bn_client_get(r.result, "text"));
 *             printf("%.*s\n", (int)t.n, t.at);
 *     } else {
 *             fprintf(stderr, "%s\n", bn_client_error(c));
 *     }
 *     bn_client_params_free(p);
 *     bn_client_close(c);
 */
#ifndef BN_CLIENT_H
#define BN_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BN_CLIENT_API __attribute__((visibility("default")))

/* How a call ended on our side of the socket. Values are stable. */
enum bn_client_status {
	BN_CLIENT_OK = 0,
	BN_CLIENT_REFUSED = 1,      /* the daemon answered with an error: see reply.code       */
	BN_CLIENT_UNREACHABLE = 2,  /* no daemon at that path, or no permission to connect     */
	BN_CLIENT_DISCONNECTED = 3, /* the daemon went away while we talked                    */
	BN_CLIENT_PROTOCOL = 4,     /* the other side does not speak our protocol              */
	BN_CLIENT_GIVEN_UP = 5,     /* hooks.keep_waiting said no                              */
	BN_CLIENT_NO_MEMORY = 6,
};

struct bn_client;
struct bn_client_params;

/* ---- values: what came from the daemon -------------------------------------------------- */

enum bn_client_type {
	BN_CLIENT_NONE, /* no such value */
	BN_CLIENT_NIL,
	BN_CLIENT_BOOL,
	BN_CLIENT_INT,
	BN_CLIENT_NUM,
	BN_CLIENT_STR,
	BN_CLIENT_BIN,
	BN_CLIENT_ARRAY,
	BN_CLIENT_MAP,
};

/* A place in a received message. Copy freely; valid until the hook that gave it returns, or, in a
 * reply of bn_client_call(), until the client is used again. Look inside with the functions. */
struct bn_client_value {
	uint64_t opaque[5];
};

/* Text that lies in a message: not NUL-terminated. */
struct bn_client_text {
	const char *at;
	size_t n;
};

struct bn_client_iter {
	uint64_t opaque[10];
};

BN_CLIENT_API enum bn_client_type bn_client_type(struct bn_client_value v);

/* By a path of keys with dots, "usage.prompt_tokens"; BN_CLIENT_NONE when absent. */
BN_CLIENT_API struct bn_client_value bn_client_get(struct bn_client_value map, const char *path);

/* The content, or the fallback when the value is of another type. Integers convert to numbers. */
BN_CLIENT_API bool bn_client_get_bool(struct bn_client_value v, bool fallback);
BN_CLIENT_API int64_t bn_client_get_int(struct bn_client_value v, int64_t fallback);
BN_CLIENT_API double bn_client_get_num(struct bn_client_value v, double fallback);

/* The text or bytes of a str or bin, else {"", 0}. */
BN_CLIENT_API struct bn_client_text bn_client_text(struct bn_client_value v);

/* Elements of an array or pairs of a map, else 0. */
BN_CLIENT_API uint32_t bn_client_count(struct bn_client_value v);

/* Walks an array (key is of type BN_CLIENT_NONE) or a map; key may be NULL. */
BN_CLIENT_API struct bn_client_iter bn_client_iterate(struct bn_client_value v);
BN_CLIENT_API bool bn_client_next(struct bn_client_iter *it, struct bn_client_value *key,
				  struct bn_client_value *value);

/* ---- parameters: what goes to the daemon ------------------------------------------------ */

/* An empty set of parameters; NULL only without memory. Free with bn_client_params_free(NULL ok).
 * The setters never fail by themselves: a lack of memory is remembered and reported by the call.
 * `key` names the value inside a map and must be NULL inside an array. */
BN_CLIENT_API struct bn_client_params *bn_client_params_new(void);
BN_CLIENT_API void bn_client_params_free(struct bn_client_params *p);
BN_CLIENT_API void bn_client_bool(struct bn_client_params *p, const char *key, bool value);
BN_CLIENT_API void bn_client_int(struct bn_client_params *p, const char *key, int64_t value);
BN_CLIENT_API void bn_client_num(struct bn_client_params *p, const char *key, double value);
BN_CLIENT_API void bn_client_str(struct bn_client_params *p, const char *key, const char *value);
BN_CLIENT_API void bn_client_strn(struct bn_client_params *p, const char *key, const char *at,
				  size_t n);
BN_CLIENT_API void bn_client_bin(struct bn_client_params *p, const char *key, const void *at,
				 size_t n);
BN_CLIENT_API void bn_client_map(struct bn_client_params *p, const char *key);
BN_CLIENT_API void bn_client_array(struct bn_client_params *p, const char *key);
BN_CLIENT_API void bn_client_end(
	struct bn_client_params *p); /* closes the innermost map or array */

/* ---- the connection ---------------------------------------------------------------------- */

/* The answer to one call. */
struct bn_client_reply {
	int code;                      /* 0, or the protocol's error code                      */
	struct bn_client_text message; /* the error's sentence                                 */
	struct bn_client_value data;   /* the error's facts, a map, or BN_CLIENT_NONE          */
	struct bn_client_value result; /* when code is 0                                       */
};

/* What a program wants to hear while it waits. Every hook may be NULL; `who` is handed through. */
struct bn_client_hooks {
	size_t size; /* sizeof(struct bn_client_hooks): lets later versions add hooks             */
	void *who;

	/* A notification: name "stream" or another, and its one map. */
	void (*event)(void *who, const char *name, struct bn_client_value params);

	/* bn_client_dispatch() only: the answer to call `msgid`. */
	void (*answer)(void *who, uint32_t msgid, const struct bn_client_reply *reply);

	/* bn_client_call() only: asked after every wait, at least every 100 ms; false
	 * gives up with BN_CLIENT_GIVEN_UP. May call bn_client_notify(). */
	bool (*keep_waiting)(void *who);
};

/*
 * Connects to the socket at `path`; NULL means bn_client_default_path(). *out is always set unless
 * memory is short, even on failure, so that bn_client_error() can tell why; close it either way.
 */
BN_CLIENT_API enum bn_client_status bn_client_open(struct bn_client **out, const char *path);
BN_CLIENT_API void bn_client_close(struct bn_client *c);

/* Where the daemon listens for this user: $BND_SOCKET, else $XDG_RUNTIME_DIR/bnd/bnd.sock if it
 * exists, else /run/bnd/bnd.sock. Writes at most `size` bytes, NUL-terminated; returns `to`. */
BN_CLIENT_API char *bn_client_default_path(char *to, size_t size);

/* The path in use, and one sentence about the last failure ("" if none). Borrowed. */
BN_CLIENT_API const char *bn_client_path(const struct bn_client *c);
BN_CLIENT_API const char *bn_client_error(const struct bn_client *c);

/*
 * Sends a request and waits for its answer, giving notifications to hooks->event meanwhile (hooks
 * may be NULL). params NULL means none. On BN_CLIENT_OK and BN_CLIENT_REFUSED *reply is filled;
 * otherwise only bn_client_error() speaks.
 */
BN_CLIENT_API enum bn_client_status bn_client_call(struct bn_client *c, const char *method,
						   const struct bn_client_params *params,
						   const struct bn_client_hooks *hooks,
						   struct bn_client_reply *reply);

/* Queues a request and returns at once; *msgid names it in hooks.answer. Sends what the socket
 * takes without waiting. */
BN_CLIENT_API enum bn_client_status bn_client_start(struct bn_client *c, const char *method,
						    const struct bn_client_params *params,
						    uint32_t *msgid);

/* Queues a notification, which has no answer: "cancel" is the one that matters. */
BN_CLIENT_API enum bn_client_status bn_client_notify(struct bn_client *c, const char *method,
						     const struct bn_client_params *params);

/* For poll(): the descriptor, and POLLIN with POLLOUT added while bytes wait to be sent. */
BN_CLIENT_API int bn_client_fd(const struct bn_client *c);
BN_CLIENT_API short bn_client_events(const struct bn_client *c);

/* Sends and receives what can be without waiting, and calls the hooks for all that arrived. */
BN_CLIENT_API enum bn_client_status bn_client_dispatch(struct bn_client *c,
						       const struct bn_client_hooks *hooks);

#ifdef __cplusplus
}
#endif

#endif
