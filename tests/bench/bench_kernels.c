/*
 * How close the kernels come to the machine: multiply-accumulates and bytes a second for each
 * kernel and shape, beside the read bandwidth and the integer peak measured in the same breath.
 *
 *   bench_kernels --shape 2560x6912 --shape 2560x2560 --tokens 1,2,4,8,32,128 --threads 1,2
 *   bench_kernels --dense --attention
 *
 * Weights cycle through many copies of the matrix, more than any cache holds. Each figure is a
 * median over --repeat rounds and the percentages are medians of ratios inside one round, because
 * on a shared machine only those mean something. --cpu-time divides by processor time instead of
 * time on the wall, for a machine whose cores are also busy with something else. With more than
 * one thread it is no measure of memory: threads that wait for a core do not share the bus.
 *
 * Kernels that look up tables are measured without making them; the last column is the time that
 * takes, as a share of itself and one product. A model shares the tables of an input among two or
 * three products.
 */
#include "kernels/cpu.h"
#include "kernels/dense.h"
#include "kernels/half.h"
#include "kernels/kernel.h"
#include "kernels/trits.h"
#include "kernels/vec.h"

#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum {
	LIST_MAX = 16,
	THREADS_MAX = 64,
	REPEAT_MAX = 99,
};

struct list {
	uint32_t value[LIST_MAX];
	uint32_t n;
};

struct options {
	uint32_t shape[LIST_MAX][2];
	uint32_t shapes;
	struct list tokens, threads;
	uint32_t repeat;
	size_t working_set;
	const char *kernel;
	bool dense, attention, cpu_time;
};

static double now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

static uint32_t next(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* ---- teams: `work(context, thread, threads)` on each thread, timed together ----------------- */

struct team;

struct member {
	struct team *team;
	uint32_t index;
	pthread_t thread;
};

struct team {
	pthread_barrier_t barrier;
	uint32_t threads;
	bool cpu_time;
	void (*work)(void *context, uint32_t thread, uint32_t threads);
	void *context;
	struct member member[THREADS_MAX];
};

static void *member_main(void *p)
{
	struct member *m = p;
	struct team *team = m->team;

	for (;;) {
		pthread_barrier_wait(&team->barrier);
		if (team->work == NULL) {
			return NULL;
		}
		team->work(team->context, m->index, team->threads);
		pthread_barrier_wait(&team->barrier);
	}
}

static void team_start(struct team *team, uint32_t threads, const struct options *o)
{
	team->cpu_time = o->cpu_time;
	team->threads = threads;
	pthread_barrier_init(&team->barrier, NULL, threads);
	for (uint32_t i = 1; i < threads; i++) {
		team->member[i] = (struct member){ .team = team, .index = i };
		if (pthread_create(&team->member[i].thread, NULL, member_main, &team->member[i])) {
			perror("pthread_create");
			exit(1);
		}
	}
}

static double team_run(struct team *team, void (*work)(void *, uint32_t, uint32_t), void *context)
{
	team->work = work;
	team->context = context;
	pthread_barrier_wait(&team->barrier);
	const clockid_t clock = team->cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
	const double start = now(clock);
	work(context, 0, team->threads);
	pthread_barrier_wait(&team->barrier);
	const double seconds = now(clock) - start;
	return team->cpu_time ? seconds / team->threads : seconds;
}

static void team_stop(struct team *team)
{
	team->work = NULL;
	pthread_barrier_wait(&team->barrier);
	for (uint32_t i = 1; i < team->threads; i++) {
		pthread_join(team->member[i].thread, NULL);
	}
	pthread_barrier_destroy(&team->barrier);
}

/* ---- the machine --------------------------------------------------------------------------- */

static volatile uint64_t sink;

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static uint64_t read_avx512(const uint8_t *p, size_t bytes)
{
	__m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;

	for (size_t i = 0; i + 256 <= bytes; i += 256) {
		a = _mm512_xor_si512(a, _mm512_loadu_si512(p + i));
		b = _mm512_xor_si512(b, _mm512_loadu_si512(p + i + 64));
		c = _mm512_xor_si512(c, _mm512_loadu_si512(p + i + 128));
		d = _mm512_xor_si512(d, _mm512_loadu_si512(p + i + 192));
	}
	return (uint64_t)_mm512_reduce_add_epi64(
		_mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d)));
}

/* Sixteen independent sums, operands in registers: multiply-accumulates done. */
__attribute__((target("avx512f,avx512vnni"))) static double peak_vnni(uint32_t rounds)
{
	__m512i s[16];
	__m512i a = _mm512_set1_epi8(1), w = _mm512_set1_epi8(2);

	for (int i = 0; i < 16; i++) {
		s[i] = _mm512_setzero_si512();
	}
	for (uint32_t r = 0; r < rounds; r++) {
#define STEP(i) s[i] = _mm512_dpbusd_epi32(s[i], w, a)
		STEP(0), STEP(1), STEP(2), STEP(3), STEP(4), STEP(5), STEP(6), STEP(7);
		STEP(8), STEP(9), STEP(10), STEP(11), STEP(12), STEP(13), STEP(14), STEP(15);
#undef STEP
		__asm__ volatile("" : "+v"(a), "+v"(w));
	}
	for (int i = 1; i < 16; i++) {
		s[0] = _mm512_add_epi32(s[0], s[i]);
	}
	sink += (uint64_t)_mm512_reduce_add_epi32(s[0]);
	return (double)rounds * 16 * 64;
}

/* The same with vpmaddubsw and vpaddw, what AVX2 has instead. */
__attribute__((target("avx2"))) static double peak_avx2(uint32_t rounds)
{
	__m256i s[8];
	__m256i a = _mm256_set1_epi8(1), w = _mm256_set1_epi8(2);

	for (int i = 0; i < 8; i++) {
		s[i] = _mm256_setzero_si256();
	}
	for (uint32_t r = 0; r < rounds; r++) {
#define STEP(i)                                                    \
	s[i] = _mm256_add_epi16(s[i], _mm256_maddubs_epi16(w, a)); \
	__asm__ volatile("" : "+x"(w))
		STEP(0);
		STEP(1);
		STEP(2);
		STEP(3);
		STEP(4);
		STEP(5);
		STEP(6);
		STEP(7);
#undef STEP
	}
	for (int i = 1; i < 8; i++) {
		s[0] = _mm256_add_epi16(s[0], s[i]);
	}
	sink += (uint64_t)_mm256_extract_epi16(s[0], 0);
	return (double)rounds * 8 * 32;
}
#endif

static uint64_t read_plain(const uint8_t *p, size_t bytes)
{
	const uint64_t *w = (const uint64_t *)(const void *)p;
	uint64_t s[8] = { 0 };

	for (size_t i = 0; i + 8 <= bytes / 8; i += 8) {
		for (int j = 0; j < 8; j++) {
			s[j] ^= w[i + (size_t)j];
		}
	}
	return s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
}

struct machine {
	uint64_t cpu;
	const uint8_t *buffer;
	size_t bytes;
	double macs[THREADS_MAX];
};

static void read_work(void *context, uint32_t thread, uint32_t threads)
{
	struct machine *m = context;
	const size_t part = m->bytes / threads / 4096 * 4096;
	const uint8_t *p = m->buffer + thread * part;

#if defined(__x86_64__)
	if (m->cpu & BN_CPU_AVX512) {
		sink += read_avx512(p, part);
		return;
	}
#endif
	sink += read_plain(p, part);
}

static void peak_work(void *context, uint32_t thread, uint32_t threads)
{
	struct machine *m = context;

	(void)threads;
	m->macs[thread] = 0.0;
#if defined(__x86_64__)
	if (m->cpu & BN_CPU_VNNI) {
		m->macs[thread] = peak_vnni(4000000);
	} else if (m->cpu & BN_CPU_AVX2) {
		m->macs[thread] = peak_avx2(4000000);
	}
#endif
}

/* Bytes a second. */
static double bandwidth(struct machine *m, struct team *team)
{
	const size_t part = m->bytes / team->threads / 4096 * 4096;
	const double seconds = team_run(team, read_work, m);

	return (double)part * team->threads / seconds;
}

/* Integer multiply-accumulates a second; 0 when this bench knows no way to find out. */
static double integer_peak(struct machine *m, struct team *team)
{
	const double seconds = team_run(team, peak_work, m);
	double macs = 0.0;

	for (uint32_t i = 0; i < team->threads; i++) {
		macs += m->macs[i];
	}
	return macs / seconds;
}

/* ---- rounds --------------------------------------------------------------------------------- */

struct figures {
	double rate[REPEAT_MAX]; /* of work per second                     */
	double read[REPEAT_MAX]; /* its bytes against the read bandwidth   */
	double peak[REPEAT_MAX]; /* its work against the integer peak      */
	double prep;             /* share of time, 0 for none              */
	uint32_t n;
};

static int by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *x, uint32_t n)
{
	qsort(x, n, sizeof(*x), by_value);
	return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

/* One job of `macs` and `bytes`, --repeat times, each time between measurements of the machine. */
static void measure(struct figures *f, const struct options *o, struct machine *machine,
		    struct team *team, void (*work)(void *, uint32_t, uint32_t), void *context,
		    double macs, double bytes)
{
	f->n = o->repeat;
	f->prep = 0.0;
	team_run(team, work, context); /* page faults, frequency, branch predictors */
	for (uint32_t i = 0; i < f->n; i++) {
		const double band = bandwidth(machine, team);
		const double peak = integer_peak(machine, team);
		const double seconds = team_run(team, work, context);
		f->rate[i] = macs / seconds;
		f->read[i] = bytes / seconds / band;
		f->peak[i] = peak > 0.0 ? macs / seconds / peak : 0.0;
	}
}

static void print_row(struct figures *f, const char *name, const char *shape, uint32_t tokens,
		      uint32_t threads, double bytes_per_mac)
{
	const double rate = median(f->rate, f->n);

	printf("%-12s %-14s %6u %7u %9.1f %8.2f %8.0f %% %8.0f %% %6.1f %%\n", name, shape, tokens,
	       threads, rate * 1e-9, rate * bytes_per_mac * 1e-9, 100 * median(f->read, f->n),
	       100 * median(f->peak, f->n), 100 * f->prep);
	fflush(stdout);
}

/* ---- ternary products ----------------------------------------------------------------------- */

struct product {
	const struct bn_kernel *k;
	uint8_t *packed;
	size_t each;
	uint8_t *prep;
	uint32_t copies, times, preps;
	struct bn_mul mul;
};

static void product_work(void *context, uint32_t thread, uint32_t threads)
{
	const struct product *p = context;
	struct bn_mul m = p->mul;
	const uint32_t groups = (m.rows + p->k->row_step - 1) / p->k->row_step;
	const uint32_t row0 = groups * thread / threads * p->k->row_step;
	uint32_t row1 = groups * (thread + 1) / threads * p->k->row_step;

	row1 = row1 > m.rows ? m.rows : row1;
	for (uint32_t i = 0; i < p->times; i++) {
		m.packed = p->packed + (i % p->copies) * p->each;
		p->k->mul(&m, row0, row1);
	}
}

static void prep_work(void *context, uint32_t thread, uint32_t threads)
{
	const struct product *p = context;
	const struct bn_acts *acts = p->mul.acts;
	const uint64_t pieces = (uint64_t)acts->n * bn_kernel_pieces(p->k, acts->cols);

	for (uint32_t i = 0; i < p->preps; i++) {
		p->k->prep(p->prep, acts, (uint32_t)(pieces * thread / threads),
			   (uint32_t)(pieces * (thread + 1) / threads));
	}
}

/* Makes the tables of the next product; the seconds that takes. */
static double bench_prep(const struct options *o, struct product *p, struct team *team)
{
	double each[REPEAT_MAX];

	p->preps = 1 + (uint32_t)(1000000 / ((uint64_t)p->mul.acts->n * p->mul.cols));
	team_run(team, prep_work, p);
	for (uint32_t i = 0; i < o->repeat; i++) {
		each[i] = team_run(team, prep_work, p) / p->preps;
	}
	return median(each, o->repeat);
}

static void bench_product(const struct options *o, struct machine *machine,
			  const struct bn_kernel *k, uint32_t rows, uint32_t cols)
{
	const uint32_t stride = (cols + 63) / 64 * 64;
	uint32_t most = 1, seed = 1;
	struct product p = { .k = k, .each = k->packed_bytes(rows, cols) };
	char shape[32];

	snprintf(shape, sizeof(shape), "%ux%u", rows, cols);
	for (uint32_t i = 0; i < o->tokens.n; i++) {
		most = o->tokens.value[i] > most ? o->tokens.value[i] : most;
	}
	p.copies = (uint32_t)(o->working_set / p.each) + 1;
	p.packed = memory(p.each * p.copies);

	const size_t codes_bytes = rows * bn_trits_stride(cols);
	uint8_t *codes = memory(codes_bytes);
	for (size_t i = 0; i < codes_bytes; i++) {
		const uint32_t x = next(&seed);
		codes[i] = (uint8_t)(x % 3 | (x >> 8) % 3 << 2 | (x >> 16) % 3 << 4 |
				     (x >> 24) % 3 << 6);
	}
	const struct bn_trits trits = { codes, bn_trits_stride(cols), rows, cols };
	k->pack(p.packed, &trits, 0, rows);
	for (uint32_t i = 1; i < p.copies; i++) {
		memcpy(p.packed + i * p.each, p.packed, p.each);
	}

	int8_t *q = memory((size_t)most * stride);
	float *scale = memory(most * sizeof(float));
	int32_t *sum = memory(most * sizeof(int32_t));
	for (uint32_t t = 0; t < most; t++) {
		scale[t] = 0.01f;
		for (uint32_t c = 0; c < cols; c++) {
			q[(size_t)t * stride + c] = (int8_t)((int)(next(&seed) % 255) - 127);
			sum[t] += q[(size_t)t * stride + c];
		}
	}
	float *out = memory((size_t)most * rows * sizeof(float));
	const size_t prep_bytes = k->prep != NULL ? k->prep_bytes(cols, most) : 0;
	p.prep = prep_bytes > 0 ? memory(prep_bytes) : NULL;

	for (uint32_t j = 0; j < o->threads.n; j++) {
		struct team team;
		team_start(&team, o->threads.value[j], o);
		for (uint32_t i = 0; i < o->tokens.n; i++) {
			const uint32_t n = o->tokens.value[i];
			const struct bn_acts acts = { q, scale, sum, n, cols, stride };
			struct figures f;
			p.mul = (struct bn_mul){
				.acts = &acts,
				.prep = p.prep,
				.out = out,
				.out_stride = rows,
				.rows = rows,
				.cols = cols,
				.scale = 1.0f,
			};
			const double prep = p.prep != NULL ? bench_prep(o, &p, &team) : 0.0;
			/* One pass over the copies, or about 10 G multiplications. */
			const double one = (double)rows * cols * n;
			const double passes = 1e10 / one / p.copies;
			p.times = passes < 1.0 ? (uint32_t)(1e10 / one) + 1 : p.copies;
			p.times = k->needs == 0 ? p.times / 30 + 1 : p.times;
			measure(&f, o, machine, &team, product_work, &p, one * p.times,
				(double)p.each * p.times);
			f.prep = prep / (prep + one / median(f.rate, f.n));
			print_row(&f, k->name, shape, n, team.threads, (double)p.each / one);
		}
		team_stop(&team);
	}
	if (p.prep != NULL) {
		munmap(p.prep, prep_bytes);
	}
	munmap(p.packed, p.each * p.copies);
	munmap(codes, codes_bytes);
	munmap(q, (size_t)most * stride);
	munmap(scale, most * sizeof(float));
	munmap(sum, most * sizeof(int32_t));
	munmap(out, (size_t)most * rows * sizeof(float));
}

/* ---- dense rows ----------------------------------------------------------------------------- */

struct head {
	const struct bn_dense *d;
	const uint8_t *rows;
	uint32_t count, cols, n;
	const float *x;
	float *out;
};

static void head_work(void *context, uint32_t thread, uint32_t threads)
{
	const struct head *h = context;
	const uint32_t row0 = (uint32_t)((uint64_t)h->count * thread / threads);
	const uint32_t row1 = (uint32_t)((uint64_t)h->count * (thread + 1) / threads);

	h->d->mul(h->out, h->count, h->rows, h->cols, h->x, h->cols, h->n, row0, row1);
}

static void bench_head(const struct options *o, struct machine *machine, const struct bn_dense *d)
{
	static const uint32_t tokens[] = { 1, 4, 8 };
	enum { COLS = 2560 };
	const size_t row_bytes = bn_dense_row_bytes(d->type, COLS);
	struct head h = { .d = d, .cols = COLS };
	char shape[32];

	h.count = (uint32_t)(o->working_set / row_bytes) / 16 * 16;
	const size_t bytes = h.count * row_bytes;
	uint8_t *rows = memory(bytes);
	memset(rows, 0x11, bytes);
	h.rows = rows;
	float *x = memory(8 * COLS * sizeof(float));
	for (uint32_t i = 0; i < 8 * COLS; i++) {
		x[i] = 0.001f * (float)(i % 77);
	}
	h.x = x;
	h.out = memory((size_t)8 * h.count * sizeof(float));
	snprintf(shape, sizeof(shape), "%ux%u", h.count, COLS);
	for (uint32_t j = 0; j < o->threads.n; j++) {
		struct team team;
		team_start(&team, o->threads.value[j], o);
		for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
			struct figures f;
			h.n = tokens[i];
			const double macs = (double)h.count * COLS * h.n;
			measure(&f, o, machine, &team, head_work, &h, macs, (double)bytes);
			print_row(&f, d->name, shape, h.n, team.threads, (double)bytes / macs);
		}
		team_stop(&team);
	}
	munmap(rows, bytes);
	munmap(x, 8 * COLS * sizeof(float));
	munmap(h.out, (size_t)8 * h.count * sizeof(float));
}

/* ---- attention ------------------------------------------------------------------------------ */

enum { KV_HEADS = 5, GROUP = 4, HEAD_DIM = 128, DEPTH = 4096 };

struct attention {
	const struct bn_vec *v;
	const uint16_t *kv; /* [layers, KV_HEADS, k and v, DEPTH, HEAD_DIM] */
	const float *q;     /* [KV_HEADS, GROUP, HEAD_DIM]                  */
	float *out;
	uint32_t layers, n;
};

static void attention_work(void *context, uint32_t thread, uint32_t threads)
{
	const struct attention *a = context;
	const uint32_t jobs = a->layers * KV_HEADS;
	const size_t plane = (size_t)DEPTH * HEAD_DIM;

	for (uint32_t j = jobs * thread / threads; j < jobs * (thread + 1) / threads; j++) {
		const uint16_t *k = a->kv + j * 2 * plane;
		const float *q = a->q + j % KV_HEADS * GROUP * HEAD_DIM;
		float *out = a->out + (size_t)j * GROUP * HEAD_DIM;
		for (uint32_t t = 0; t < a->n; t++) {
			struct bn_attend_state state[GROUP];
			float acc[GROUP * HEAD_DIM] = { 0 };
			for (uint32_t g = 0; g < GROUP; g++) {
				state[g] = (struct bn_attend_state){ -INFINITY, 0.0f };
			}
			for (uint32_t p = 0; p < DEPTH; p += BN_ATTEND_BLOCK) {
				a->v->attend(state, acc, q, k + (size_t)p * HEAD_DIM,
					     k + plane + (size_t)p * HEAD_DIM, BN_ATTEND_BLOCK,
					     GROUP, HEAD_DIM);
			}
			for (uint32_t g = 0; g < GROUP; g++) {
				a->v->attend_finish(out + g * HEAD_DIM, acc + g * HEAD_DIM,
						    &state[g], HEAD_DIM);
			}
		}
	}
}

static void bench_attention(const struct options *o, struct machine *machine,
			    const struct bn_vec *v)
{
	static const uint32_t tokens[] = { 1, 4 };
	const size_t layer = (size_t)KV_HEADS * 2 * DEPTH * HEAD_DIM * sizeof(uint16_t);
	struct attention a = { .v = v };
	uint32_t seed = 3;

	a.layers = (uint32_t)(o->working_set / layer) + 1;
	uint16_t *kv = memory(a.layers * layer);
	for (size_t i = 0; i < a.layers * layer / sizeof(uint16_t); i++) {
		kv[i] = bn_float_to_half((float)((int)(next(&seed) % 2001) - 1000) * 0.001f);
	}
	a.kv = kv;
	const size_t q_bytes = KV_HEADS * GROUP * HEAD_DIM * sizeof(float);
	float *q = memory(q_bytes);
	for (size_t i = 0; i < q_bytes / sizeof(float); i++) {
		q[i] = (float)((int)(next(&seed) % 2001) - 1000) * 0.0001f;
	}
	a.q = q;
	a.out = memory(a.layers * q_bytes);
	for (uint32_t j = 0; j < o->threads.n; j++) {
		struct team team;
		team_start(&team, o->threads.value[j], o);
		for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
			struct figures f;
			char name[32];
			a.n = tokens[i];
			const double macs =
				(double)a.layers * KV_HEADS * GROUP * HEAD_DIM * 2 * DEPTH * a.n;
			const double bytes = (double)a.layers * (double)layer;
			snprintf(name, sizeof(name), "att.%s", v->name);
			measure(&f, o, machine, &team, attention_work, &a, macs, bytes);
			print_row(&f, name, "4096x128 4:1", a.n, team.threads, bytes / macs);
		}
		team_stop(&team);
	}
	munmap(kv, a.layers * layer);
	munmap(q, q_bytes);
	munmap(a.out, a.layers * q_bytes);
}

/* ---- command line --------------------------------------------------------------------------- */

static bool parse_list(struct list *list, const char *text, uint32_t most)
{
	list->n = 0;
	while (list->n < LIST_MAX) {
		char *end;
		const unsigned long x = strtoul(text, &end, 10);
		if (end == text || x == 0 || x > most) {
			return false;
		}
		list->value[list->n++] = (uint32_t)x;
		if (*end == '\0') {
			return true;
		}
		if (*end != ',') {
			return false;
		}
		text = end + 1;
	}
	return false;
}

static int usage(void)
{
	fprintf(stderr, "bench_kernels [--shape ROWSxCOLS]... [--tokens 1,8] [--threads 1,2]\n"
			"              [--kernel NAME|FAMILY] [--repeat N] [--megabytes N]\n"
			"              [--dense] [--attention] [--cpu-time]\n");
	return 2;
}

static bool parse(struct options *o, int argc, char **argv)
{
	static const struct option names[] = {
		{ "shape", required_argument, NULL, 's' },
		{ "tokens", required_argument, NULL, 'n' },
		{ "threads", required_argument, NULL, 't' },
		{ "kernel", required_argument, NULL, 'k' },
		{ "repeat", required_argument, NULL, 'r' },
		{ "megabytes", required_argument, NULL, 'm' },
		{ "dense", no_argument, NULL, 'd' },
		{ "attention", no_argument, NULL, 'a' },
		{ "cpu-time", no_argument, NULL, 'c' },
		{ NULL, 0, NULL, 0 },
	};
	struct list one;
	char rest;

	for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		switch (c) {
		case 's':
			if (o->shapes == LIST_MAX ||
			    sscanf(optarg, "%ux%u%c", &o->shape[o->shapes][0],
				   &o->shape[o->shapes][1], &rest) != 2) {
				return false;
			}
			o->shapes++;
			break;
		case 'n':
			if (!parse_list(&o->tokens, optarg, 4096)) {
				return false;
			}
			break;
		case 't':
			if (!parse_list(&o->threads, optarg, THREADS_MAX)) {
				return false;
			}
			break;
		case 'k':
			o->kernel = optarg;
			break;
		case 'r':
			if (!parse_list(&one, optarg, REPEAT_MAX) || one.n != 1) {
				return false;
			}
			o->repeat = one.value[0];
			break;
		case 'm':
			if (!parse_list(&one, optarg, 65536) || one.n != 1) {
				return false;
			}
			o->working_set = (size_t)one.value[0] << 20;
			break;
		case 'd':
			o->dense = true;
			break;
		case 'a':
			o->attention = true;
			break;
		case 'c':
			o->cpu_time = true;
			break;
		default:
			return false;
		}
	}
	return optind == argc;
}

static void print_machine(const struct options *o, struct machine *machine)
{
	char text[128];

	printf("features: %s\n", bn_cpu_describe(machine->cpu, text, sizeof(text)));
	for (uint32_t j = 0; j < o->threads.n; j++) {
		struct team team;
		double band[REPEAT_MAX], peak[REPEAT_MAX];
		team_start(&team, o->threads.value[j], o);
		for (uint32_t i = 0; i < o->repeat; i++) {
			band[i] = bandwidth(machine, &team);
			peak[i] = integer_peak(machine, &team);
		}
		printf("%u thread(s): read %.1f GB/s, integer peak %.0f GMAC/s\n", team.threads,
		       median(band, o->repeat) * 1e-9, median(peak, o->repeat) * 1e-9);
		team_stop(&team);
	}
	printf("\n%-12s %-14s %6s %7s %9s %8s %10s %10s %8s\n", "kernel", "shape", "tokens",
	       "threads", "GMAC/s", "GB/s", "of read", "of peak", "prep");
}

int main(int argc, char **argv)
{
	struct options o = {
		.tokens = { { 1, 2, 4, 8, 32, 128 }, 6 },
		.threads = { { 1, 2 }, 2 },
		.repeat = 5,
		.working_set = (size_t)256 << 20,
	};
	struct machine machine = { .cpu = bn_cpu_features(), .bytes = (size_t)256 << 20 };

	if (!parse(&o, argc, argv)) {
		return usage();
	}
	if (o.shapes == 0 && !o.dense && !o.attention) {
		o.shape[o.shapes][0] = 2560;
		o.shape[o.shapes++][1] = 6912;
	}
	uint8_t *buffer = memory(machine.bytes);
	memset(buffer, 1, machine.bytes);
	machine.buffer = buffer;
	print_machine(&o, &machine);

	const struct bn_kernel *const *kernels;
	const size_t n_kernels = bn_kernels(&kernels);
	for (uint32_t s = 0; s < o.shapes; s++) {
		for (size_t i = 0; i < n_kernels; i++) {
			const struct bn_kernel *k = kernels[i];
			if ((k->needs & machine.cpu) == k->needs &&
			    (o.kernel == NULL || bn_kernel_named(k, o.kernel))) {
				bench_product(&o, &machine, k, o.shape[s][0], o.shape[s][1]);
			}
		}
	}
	const struct bn_dense *const *denses;
	const size_t n_denses = o.dense ? bn_denses(&denses) : 0;
	for (size_t i = 0; i < n_denses; i++) {
		if ((denses[i]->needs & machine.cpu) == denses[i]->needs && denses[i]->needs != 0) {
			bench_head(&o, &machine, denses[i]);
		}
	}
	const struct bn_vec *const *vecs;
	const size_t n_vecs = o.attention ? bn_vecs(&vecs) : 0;
	for (size_t i = 0; i < n_vecs; i++) {
		if ((vecs[i]->needs & machine.cpu) == vecs[i]->needs && vecs[i]->needs != 0) {
			bench_attention(&o, &machine, vecs[i]);
		}
	}
	munmap(buffer, machine.bytes);
	return 0;
}
