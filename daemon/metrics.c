/*
 * Series live in a flat array per metric, found by comparing label values: at most 64 of them, and
 * the loop touches a metric a few times per message. Counters are integers, so that adding 1 to
 * 2^53 is not lost in a double.
 */
#include "daemon/metrics.h"

#include "proto/assert.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum type { COUNTER, GAUGE, HISTOGRAM };

enum { LABEL_BYTES = 64 };

/* Upper bounds in seconds. One ladder for all: from a batched token to a cold load. */
static const double bounds[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,  0.25,
				 0.5,   1.0,    2.5,   5.0,  10.0,  30.0, 60.0, 300.0 };

enum { BOUNDS = sizeof(bounds) / sizeof(bounds[0]) };

struct series {
	char label[LABEL_BYTES]; /* "" for a metric without label */
	uint64_t count;          /* COUNTER; HISTOGRAM: observations */
	double value;            /* GAUGE; HISTOGRAM: sum */
	uint64_t *bucket;        /* HISTOGRAM: [BOUNDS], not cumulative */
};

struct metric {
	uint32_t n;
	struct series *series;
};

struct bn_metrics {
	struct metric at[BN_METRICS];
};

#define INFO_ROW(SYMBOL, name, TYPE, label, help) { name, TYPE, label, help },
static const struct {
	const char *name;
	enum type type;
	const char *label;
	const char *help;
} infos[BN_METRICS] = { BN_METRIC_TABLE(INFO_ROW) };
#undef INFO_ROW

static bool add_series(struct metric *metric, enum bn_metric id, const char *label)
{
	struct series *grown = reallocarray(metric->series, metric->n + 1u, sizeof(*grown));
	struct series *s;

	if (grown == NULL) {
		return false;
	}
	metric->series = grown;
	s = &grown[metric->n];
	*s = (struct series){ 0 };
	memcpy(s->label, label, strnlen(label, LABEL_BYTES - 1));
	if (infos[id].type == HISTOGRAM) {
		s->bucket = calloc(BOUNDS, sizeof(*s->bucket));
		if (s->bucket == NULL) {
			return false;
		}
	}
	metric->n++;
	return true;
}

enum bn_status bn_metrics_new(struct bn_metrics **out, struct bn_error *err)
{
	struct bn_metrics *m = calloc(1, sizeof(*m));
	bool ok = m != NULL;

	/* A metric without a label is there from the start, at zero, so that a graph has a line. */
	for (size_t id = 0; ok && id < BN_METRICS; id++) {
		if (infos[id].label[0] == '\0') {
			ok = add_series(&m->at[id], (enum bn_metric)id, "");
		}
	}
	if (!ok) {
		bn_metrics_free(m);
		return bn_fail(err, BN_E_MEMORY, "no memory for metrics");
	}
	*out = m;
	return BN_OK;
}

void bn_metrics_free(struct bn_metrics *m)
{
	if (m == NULL) {
		return;
	}
	for (size_t id = 0; id < BN_METRICS; id++) {
		for (uint32_t i = 0; i < m->at[id].n; i++) {
			free(m->at[id].series[i].bucket);
		}
		free(m->at[id].series);
	}
	free(m);
}

static struct series *find(const struct metric *metric, const char *label)
{
	for (uint32_t i = 0; i < metric->n; i++) {
		if (strncmp(metric->series[i].label, label, LABEL_BYTES - 1) == 0) {
			return &metric->series[i];
		}
	}
	return NULL;
}

static void check_id(enum bn_metric id, const char *label)
{
	bn_assert((unsigned)id < BN_METRICS);
	bn_assert((label == NULL) == (infos[id].label[0] == '\0'));
}

/* The series to change, made if new; NULL when there is no memory for it. */
static struct series *touch(struct bn_metrics *m, enum bn_metric id, const char *label,
			    enum type type)
{
	struct metric *metric;
	struct series *s;

	check_id(id, label);
	bn_assert(infos[id].type == type);
	label = label != NULL ? label : "";
	metric = &m->at[id];
	s = find(metric, label);
	if (s == NULL && metric->n >= BN_METRICS_LABELS_MAX - 1) {
		label = "other";
		s = find(metric, label);
	}
	if (s == NULL && add_series(metric, id, label)) {
		s = &metric->series[metric->n - 1];
	}
	return s;
}

void bn_metrics_add(struct bn_metrics *m, enum bn_metric id, const char *label, uint64_t n)
{
	struct series *s = m != NULL ? touch(m, id, label, COUNTER) : NULL;

	if (s != NULL) {
		s->count += n;
	}
}

void bn_metrics_set(struct bn_metrics *m, enum bn_metric id, const char *label, double value)
{
	struct series *s = m != NULL ? touch(m, id, label, GAUGE) : NULL;

	if (s != NULL) {
		s->value = value;
	}
}

void bn_metrics_observe(struct bn_metrics *m, enum bn_metric id, const char *label, double seconds)
{
	struct series *s = m != NULL ? touch(m, id, label, HISTOGRAM) : NULL;
	size_t i = 0;

	if (s == NULL) {
		return;
	}
	if (!(seconds > 0.0)) {
		seconds = 0.0;
	}
	while (i < BOUNDS && seconds > bounds[i]) {
		i++;
	}
	if (i < BOUNDS) {
		s->bucket[i]++;
	}
	s->count++;
	s->value += seconds;
}

double bn_metrics_get(const struct bn_metrics *m, enum bn_metric id, const char *label)
{
	const struct series *s;

	check_id(id, label);
	s = find(&m->at[id], label != NULL ? label : "");
	if (s == NULL) {
		return 0.0;
	}
	return infos[id].type == GAUGE ? s->value : (double)s->count;
}

/* A number as Prometheus reads it; shortest of two forms that keep the value. */
static void put_number(FILE *out, double value)
{
	if (isnan(value)) {
		fputs("NaN", out);
	} else if (isinf(value)) {
		fputs(value > 0 ? "+Inf" : "-Inf", out);
	} else if (value == floor(value) && fabs(value) < 1e15) {
		fprintf(out, "%.0f", value);
	} else {
		fprintf(out, "%.9g", value);
	}
}

/* {label="value",le="0.1"} with what there is; escapes as the format demands. */
static void put_labels(FILE *out, const char *label, const char *value, const char *le)
{
	if (label[0] == '\0' && le == NULL) {
		return;
	}
	fputc('{', out);
	if (label[0] != '\0') {
		fprintf(out, "%s=\"", label);
		for (const char *p = value; *p != '\0'; p++) {
			if (*p == '\n') {
				fputs("\\n", out);
			} else if (*p == '"' || *p == '\\') {
				fprintf(out, "\\%c", *p);
			} else {
				fputc(*p, out);
			}
		}
		fputc('"', out);
	}
	if (le != NULL) {
		fprintf(out, "%sle=\"%s\"", label[0] != '\0' ? "," : "", le);
	}
	fputc('}', out);
}

static void put_histogram(FILE *out, enum bn_metric id, const struct series *s)
{
	const char *name = infos[id].name;
	const char *label = infos[id].label;
	uint64_t below = 0;
	char le[32];

	for (size_t i = 0; i < BOUNDS; i++) {
		below += s->bucket[i];
		snprintf(le, sizeof(le), "%g", bounds[i]);
		fprintf(out, "%s_bucket", name);
		put_labels(out, label, s->label, le);
		fprintf(out, " %" PRIu64 "\n", below);
	}
	fprintf(out, "%s_bucket", name);
	put_labels(out, label, s->label, "+Inf");
	fprintf(out, " %" PRIu64 "\n%s_sum", s->count, name);
	put_labels(out, label, s->label, NULL);
	fputc(' ', out);
	put_number(out, s->value);
	fprintf(out, "\n%s_count", name);
	put_labels(out, label, s->label, NULL);
	fprintf(out, " %" PRIu64 "\n", s->count);
}

static void put_metric(FILE *out, enum bn_metric id, const struct metric *metric)
{
	static const char *const types[] = { "counter", "gauge", "histogram" };

	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", infos[id].name, infos[id].help, infos[id].name,
		types[infos[id].type]);
	for (uint32_t i = 0; i < metric->n; i++) {
		const struct series *s = &metric->series[i];

		if (infos[id].type == HISTOGRAM) {
			put_histogram(out, id, s);
			continue;
		}
		fputs(infos[id].name, out);
		put_labels(out, infos[id].label, s->label, NULL);
		fputc(' ', out);
		if (infos[id].type == COUNTER) {
			fprintf(out, "%" PRIu64, s->count);
		} else {
			put_number(out, s->value);
		}
		fputc('\n', out);
	}
}

enum bn_status bn_metrics_text(const struct bn_metrics *m, char **text, size_t *n,
			       struct bn_error *err)
{
	char *bytes = NULL;
	size_t used = 0;
	FILE *out = open_memstream(&bytes, &used);
	bool ok = out != NULL;

	for (size_t id = 0; ok && id < BN_METRICS; id++) {
		put_metric(out, (enum bn_metric)id, &m->at[id]);
	}
	if (out != NULL) {
		ok = !ferror(out);
		ok = fclose(out) == 0 && ok;
	}
	if (!ok) {
		free(bytes);
		return bn_fail(err, BN_E_MEMORY, "no memory for the text of the metrics");
	}
	*text = bytes;
	*n = used;
	return BN_OK;
}
