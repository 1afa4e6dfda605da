/*
 * The configuration: a YAML file becomes one struct of plain values, checked by one table of
 * fields that is also what etc/bnd.yaml documents and what the effective configuration is printed
 * from.
 *
 * It does not look at the machine (cores, memory, files, users and kernel names are checked by
 * those who use them), does not decide where the file lies, does not print (config_print.h does)
 * and does not apply a reload.
 *
 * A file with mistakes yields all of them at once, each as `file:line:column: key: what was
 * expected, what was found`. Unknown keys are mistakes.
 */
#ifndef BN_DAEMON_CONFIG_H
#define BN_DAEMON_CONFIG_H

#include "daemon/setting.h"
#include "daemon/yaml.h"
#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BN_CONFIG_MODELS_MAX = 256,
	BN_CONFIG_RULES_MAX = 256,
	BN_CONFIG_KEEP_FOREVER = -1, /* equals BN_TIME_FOREVER of proto/params.h */
};

/* Rights, as `access[].may` grants them. Values are bits of a set. */
enum bn_may {
	BN_MAY_STATUS = 1,   /* see what there is and how it does      */
	BN_MAY_GENERATE = 2, /* completions, chat, tokenize            */
	BN_MAY_LOAD = 4,     /* load and unload models                 */
	BN_MAY_ADMIN = 8,    /* other people's requests, reload, drain */
	BN_MAY_ALL = 15,
};

/* The order is that of enum bn_log_level (daemon/log.h). */
enum bn_config_log_level {
	BN_CONFIG_LOG_ERROR,
	BN_CONFIG_LOG_WARN,
	BN_CONFIG_LOG_INFO,
	BN_CONFIG_LOG_DEBUG,
};

/* Sampling values somebody wrote down; the rest is the model file's or built in. */
struct bn_config_sampling {
	bool has_temperature, has_top_k, has_top_p, has_min_p, has_typical_p, has_repeat_penalty;
	bool has_repeat_last_n, has_presence_penalty, has_frequency_penalty;
	double temperature;       /* 0..5                                  */
	int64_t top_k;            /* 0..1048576; 0 keeps all               */
	double top_p;             /* 0..1                                  */
	double min_p;             /* 0..1                                  */
	double typical_p;         /* 0..1                                  */
	double repeat_penalty;    /* 0.1..10                               */
	int64_t repeat_last_n;    /* -1..1048576; -1 is the whole context  */
	double presence_penalty;  /* -2..2                                 */
	double frequency_penalty; /* -2..2                                 */
};

/* One entry of `models`; what it leaves out has been filled in from `kernels` and `defaults`. */
struct bn_config_model {
	const char *name;
	const char
		*path; /* absolute, or relative to where bnd was started if the file's name was */
	struct bn_config_strings aliases;
	uint64_t context;      /* longest context served; 0: what the model was trained for */
	uint64_t weight;       /* share of the processor against other models, 1..1000      */
	int64_t keep_alive_ms; /* how long it stays when idle; BN_CONFIG_KEEP_FOREVER       */
	bool pin;              /* never evicted to make room                                */
	bool preload;          /* loaded at start                                           */
	struct bn_config_strings kernels; /* preference; empty: the best one                */
	const char *template;             /* of chats; "auto": by the file                  */
	uint64_t max_tokens;              /* when a request does not say                    */
	struct bn_config_sampling sampling;
	uint32_t line, column; /* of the entry, for complaints of others                    */
	bool has_keep_alive, has_kernels, has_max_tokens; /* true once parsed                */
};

/* One entry of `access`. */
struct bn_config_rule {
	const char *user; /* exactly one of the two is set; a name or a number */
	const char *group;
	uint32_t may; /* set of enum bn_may */
	uint32_t line, column;
};

/* Everything. Const after parse; strings live as long as the struct. Sizes in bytes. */
struct bn_config {
	const char *file; /* name it was read from, for messages */
	struct {
		const char *path;  /* "": where main puts it       */
		const char *group; /* "": the process's group      */
		uint64_t mode;     /* permission bits              */
	} socket;
	struct {
		uint64_t budget;   /* 0: auto, see bn_budget_auto  */
		uint64_t headroom; /* what auto leaves to others   */
	} memory;
	struct {
		struct bn_config_cores cores;
		uint64_t step_target_ms;
		uint64_t max_batch;                     /* rows that decode in one step   */
		uint64_t prefill_chunk;                 /* prompt rows of one step        */
		struct bn_config_strings mask_features; /* CPU features not to be used    */
	} workers;
	struct bn_config_strings kernels; /* preference for all models; empty: the best one */
	uint32_t n_models;
	const struct bn_config_model *models;
	struct {
		uint64_t clients;
		uint64_t connections_per_user;
		uint64_t in_flight; /* requests of one connection before reading stops */
		uint64_t queue;
		uint64_t queue_per_model;
		uint64_t queue_per_user;
		uint64_t message;     /* bytes of one message from a client        */
		uint64_t output_soft; /* bytes waiting for a client: pause         */
		uint64_t output_hard; /* bytes waiting for a client: disconnect    */
		uint64_t stall_timeout_ms;
		uint64_t stall_rate; /* bytes per second below which it is a stall */
		uint64_t message_timeout_ms;
	} limits;
	struct {
		uint64_t max_tokens;
		int64_t keep_alive_ms;
		struct bn_config_sampling sampling;
	} defaults;
	uint32_t n_access;
	const struct bn_config_rule *access;
	struct {
		uint32_t level; /* enum bn_config_log_level */
	} log;
	struct {
		uint64_t drain_timeout_ms;
	} shutdown;
	struct bn_yaml *tree; /* owns all of the above */
};

/* When a change of a setting takes effect. */
enum bn_config_when {
	BN_CONFIG_NOW,
	BN_CONFIG_NEXT_LOAD, /* when the model is loaded the next time */
	BN_CONFIG_RESTART,   /* when bnd is started the next time      */
};

/*
 * Reads and checks a file: regular, at most 1 MiB, not writable by strangers. BN_E_IO when it
 * cannot be read; BN_E_CONFIG with everything in *report (zeroed first), sorted by place, when it
 * is wrong, the error's sentence being the first complaint with its place; BN_E_MEMORY. *out is
 * freed with bn_config_free. Blocks on the file: at start and on reload only. BN_ON_ANY.
 */
BN_MUST_USE enum bn_status bn_config_load(struct bn_config **out, const char *path,
					  struct bn_yaml_report *report, struct bn_error *err);

/*
 * The same from n bytes; `name` stands in messages and its folder is where relative model paths
 * start. No bytes give the defaults.
 */
BN_MUST_USE enum bn_status bn_config_parse(struct bn_config **out, const char *name,
					   const void *bytes, size_t n,
					   struct bn_yaml_report *report, struct bn_error *err);

/* NULL is fine. */
void bn_config_free(struct bn_config *c);

/*
 * The table: *n rows, grouped by section. Rows whose path begins with "models[]." are members of
 * struct bn_config_model, with "access[]." of struct bn_config_rule, all others of struct
 * bn_config. Static.
 */
const struct bn_setting *bn_config_table(size_t *n);

/* The model of that name or alias, or NULL. */
const struct bn_config_model *bn_config_model(const struct bn_config *c, const char *name);

#endif
