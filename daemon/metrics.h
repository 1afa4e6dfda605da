/*
 * Counters, gauges and histograms of the daemon, and their Prometheus text.
 *
 * It does not serve them, sample them or know what they mean; callers set numbers where they
 * arise, and a method or an HTTP front hands the text out. No label carries a uid, a prompt or a
 * request id.
 *
 * The three gauges a load balancer needs have the meaning the endpoint-picker protocol of
 * Kubernetes' inference gateway wants: requests waiting, requests running, share of KV in use.
 */
#ifndef BN_DAEMON_METRICS_H
#define BN_DAEMON_METRICS_H

#include "proto/error.h"
#include "proto/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(SYMBOL, name, TYPE, label or "", help) */
#define BN_METRIC_TABLE(X)                                                                      \
	X(REQUESTS_WAITING, "bnd_requests_waiting", GAUGE, "", "Requests waiting for a place")  \
	X(REQUESTS_RUNNING, "bnd_requests_running", GAUGE, "", "Requests being computed")       \
	X(KV_USAGE, "bnd_kv_cache_usage_ratio", GAUGE, "",                                      \
	  "Share of the memory not held by weights that context occupies, 0..1")                \
	X(MEMORY_BUDGET, "bnd_memory_budget_bytes", GAUGE, "", "The memory budget")             \
	X(MEMORY_USED, "bnd_memory_used_bytes", GAUGE, "kind", "Reserved of the budget")        \
	X(CONNECTIONS, "bnd_connections", GAUGE, "", "Open connections")                        \
	X(MODELS_READY, "bnd_models_ready", GAUGE, "", "Models in memory")                      \
	X(CONNECTIONS_TOTAL, "bnd_connections_total", COUNTER, "", "Connections accepted")      \
	X(CLOSED, "bnd_connections_closed_total", COUNTER, "reason", "Connections ended")       \
	X(REQUESTS, "bnd_requests_total", COUNTER, "outcome", "Generations ended")              \
	X(PROMPT_TOKENS, "bnd_prompt_tokens_total", COUNTER, "", "Prompt tokens computed")      \
	X(GENERATION_TOKENS, "bnd_generation_tokens_total", COUNTER, "", "Tokens generated")    \
	X(WASTED_TOKENS, "bnd_wasted_tokens_total", COUNTER, "phase",                           \
	  "Tokens computed for requests that were cancelled")                                   \
	X(LOADS, "bnd_model_loads_total", COUNTER, "reason", "Models loaded")                   \
	X(LOAD_FAILURES, "bnd_model_load_failures_total", COUNTER, "code", "Loads that failed") \
	X(EVICTIONS, "bnd_evictions_total", COUNTER, "reason", "Models taken out of memory")    \
	X(REJECTED, "bnd_rejected_total", COUNTER, "code", "Calls answered with an error")      \
	X(STEPS, "bnd_steps_total", COUNTER, "", "Steps computed")                              \
	X(QUEUE_WAIT, "bnd_queue_wait_seconds", HISTOGRAM, "priority",                          \
	  "From arrival to the first computed row")                                             \
	X(TTFT, "bnd_time_to_first_token_seconds", HISTOGRAM, "",                               \
	  "From arrival to the first token")                                                    \
	X(TPOT, "bnd_time_per_output_token_seconds", HISTOGRAM, "", "Between two tokens")       \
	X(LATENCY, "bnd_e2e_request_latency_seconds", HISTOGRAM, "", "From arrival to the end") \
	X(LOAD_SECONDS, "bnd_model_load_seconds", HISTOGRAM, "", "Time a load took")            \
	X(STEP_SECONDS, "bnd_step_seconds", HISTOGRAM, "", "Time a step took")                  \
	X(LOOP_LAG, "bnd_loop_lag_seconds", HISTOGRAM, "", "How late the loop's tick came")

#define BN_METRIC_ENUM(SYMBOL, name, TYPE, label, help) BN_METRIC_##SYMBOL,
enum bn_metric { BN_METRIC_TABLE(BN_METRIC_ENUM) BN_METRICS };
#undef BN_METRIC_ENUM

enum { BN_METRICS_LABELS_MAX = 64 }; /* label values of one metric; the rest share "other" */

/* Opaque; owned by the loop. */
struct bn_metrics;

/* All zero. BN_E_MEMORY. */
BN_MUST_USE enum bn_status bn_metrics_new(struct bn_metrics **out, struct bn_error *err);

/* NULL is fine. */
void bn_metrics_free(struct bn_metrics *m);

/*
 * The three ways to change one. `label` is the value of the metric's label (copied, at most 63
 * bytes are kept) and must be NULL exactly when the metric has none. Wrong type asserts. A new
 * label value for which there is no memory is dropped. m == NULL does nothing, for tests.
 */
void bn_metrics_add(struct bn_metrics *m, enum bn_metric id, const char *label,
		    uint64_t n) BN_ON_LOOP; /* COUNTER */
void bn_metrics_set(struct bn_metrics *m, enum bn_metric id, const char *label,
		    double value) BN_ON_LOOP; /* GAUGE */
void bn_metrics_observe(struct bn_metrics *m, enum bn_metric id, const char *label,
			double seconds) BN_ON_LOOP; /* HISTOGRAM; NaN and negatives count as 0 */

/* A counter's or gauge's value, a histogram's count; 0 for a label never seen. */
double bn_metrics_get(const struct bn_metrics *m, enum bn_metric id, const char *label) BN_ON_LOOP;

/*
 * The exposition, Prometheus text format 0.0.4: *n bytes at *text, to be released with free().
 * Metrics with a label appear once a value has been seen. BN_E_MEMORY.
 */
BN_MUST_USE enum bn_status bn_metrics_text(const struct bn_metrics *m, char **text, size_t *n,
					   struct bn_error *err) BN_ON_LOOP;

#endif
