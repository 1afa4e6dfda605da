#include "client/meter.h"

enum { BAR_PERIOD_MS = 100, LINE_PERIOD_MS = 5000, SPEED_PERIOD_MS = 500 };

/* The newest measurement counts for a third: steady enough to read, quick enough to believe. */
static const double newest = 0.3;

static void measure(struct bn_meter *m, uint64_t bytes, uint64_t now_ms)
{
	const uint64_t ms = now_ms - m->mark_ms;
	double speed;

	if (!m->marked || bytes < m->mark_bytes) {
		m->marked = true;
		m->mark_ms = now_ms;
		m->mark_bytes = bytes;
		return;
	}
	if (ms < SPEED_PERIOD_MS) {
		return;
	}
	speed = (double)(bytes - m->mark_bytes) * 1000 / (double)ms;
	m->speed = m->speed > 0 ? m->speed * (1 - newest) + speed * newest : speed;
	m->mark_ms = now_ms;
	m->mark_bytes = bytes;
}

void bn_meter_start(struct bn_meter *m, uint64_t total_bytes)
{
	m->on = true;
	m->total_bytes = total_bytes;
	m->before_bytes = 0;
	m->marked = false;
	m->speed = 0;
}

void bn_meter_stop(struct bn_meter *m)
{
	m->on = false;
	bn_term_progress_end(m->term);
}

char *bn_meter_text(const struct bn_meter *m, uint64_t bytes, char *text, size_t size)
{
	char done[32], total[32], speed[32], left[32];
	const bool known = m->total_bytes > 0 && bytes <= m->total_bytes;
	int n = snprintf(text, size, "%s", bn_term_bytes(done, sizeof(done), (int64_t)bytes));

	if (known) {
		n += snprintf(text + n, size - (size_t)n, " of %s",
			      bn_term_bytes(total, sizeof(total), (int64_t)m->total_bytes));
	}
	if (m->speed >= 1) {
		n += snprintf(text + n, size - (size_t)n, "  %s/s",
			      bn_term_bytes(speed, sizeof(speed), (int64_t)m->speed));
	}
	if (known && m->speed >= 1) {
		const double ms = (double)(m->total_bytes - bytes) * 1000 / m->speed;

		snprintf(text + n, size - (size_t)n, "  %s left",
			 bn_term_ms(left, sizeof(left), (int64_t)ms));
	}
	return text;
}

void bn_meter_show(struct bn_meter *m, const char *label, uint64_t bytes, uint64_t now_ms)
{
	const uint64_t period = m->term->terminal ? BAR_PERIOD_MS : LINE_PERIOD_MS;
	char text[160];

	if (!m->on) {
		return;
	}
	bytes += m->before_bytes;
	if (!m->marked) {
		m->drawn_ms = now_ms;
	}
	measure(m, bytes, now_ms);
	if (m->quiet || now_ms - m->drawn_ms < period) {
		return;
	}
	m->drawn_ms = now_ms;
	bn_meter_text(m, bytes, text, sizeof(text));
	if (m->term->terminal) {
		bn_term_progress(m->term, label,
				 m->total_bytes > 0 ? (double)bytes / (double)m->total_bytes : -1,
				 text);
	} else {
		fprintf(m->term->to, "%s: %s\n", label, text);
	}
}
