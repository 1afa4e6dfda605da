/* The element-wise parts of one training step, fused so that a row stays in the cache. Matrix
 * products are left to torch.
 *
 * Built and loaded by train.py. Everything is row-parallel with OpenMP. bf16 values are uint16_t.
 * Names: rs is 1/rms of a row, inv is 1/s of a row (s = 127/absmax, the activation quantizer), so
 * that x is about xq * inv.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bf16;
#define EPS  1e-5f
#define MAXW 4096 /* widest row that a scratch array holds */

static inline float up(bf16 h)
{
	union {
		uint32_t u;
		float f;
	} c = { (uint32_t)h << 16 };
	return c.f;
}
static inline bf16 down(float f)
{
	union {
		float f;
		uint32_t u;
	} c = { f };
	return (bf16)((c.u + 0x7FFF + ((c.u >> 16) & 1)) >> 16);
}

/* n[] = row * rs * gain, then quantized to whole numbers. */
static inline void norm_quant_row(const float *restrict x, const float *restrict gain, int d,
				  bf16 *restrict out, float *rs, float *inv)
{
	float sum = 0, top = 0;
	for (int i = 0; i < d; i++)
		sum += x[i] * x[i];
	float r = 1.0f / sqrtf(sum / d + EPS);
	for (int i = 0; i < d; i++)
		top = fmaxf(top, fabsf(x[i] * gain[i]));
	top = fmaxf(top * r, 1e-5f);
	float k = r * 127.0f / top;
	for (int i = 0; i < d; i++)
		out[i] = down(rintf(x[i] * gain[i] * k));
	*rs = r;
	*inv = top / 127.0f;
}

/* g = gradient of the normed row; adds its gradient to gx, and g * xhat to dgain. */
static inline void norm_bwd_row(const float *restrict x, const float *restrict gain, float r,
				const float *restrict g, int d, float *restrict gx,
				float *restrict dgain)
{
	float dot = 0;
	for (int i = 0; i < d; i++) {
		float xh = x[i] * r;
		dgain[i] += g[i] * xh;
		dot += g[i] * gain[i] * xh;
	}
	dot /= d;
	for (int i = 0; i < d; i++)
		gx[i] = r * (g[i] * gain[i] - x[i] * r * dot);
}

/* x_out = x + y * yinv * yscale (where y is given), then RMSNorm and quantization. quant 0: plain
 * bf16 output. */
void add_norm_quant(long n, int d, const float *x, const bf16 *y, const float *yinv, float yscale,
		    float *x_out, const float *gain, int quant, bf16 *out, float *rs, float *inv)
{
#pragma omp parallel for schedule(static)
	for (long t = 0; t < n; t++) {
		const float *a = x + t * d;
		float *o = x_out + t * d;
		if (y) {
			float k = yinv[t] * yscale;
			for (int i = 0; i < d; i++)
				o[i] = a[i] + up(y[t * d + i]) * k;
		} else if (o != a)
			memcpy(o, a, sizeof(float) * d);
		if (quant)
			norm_quant_row(o, gain, d, out + t * d, rs + t, inv + t);
		else {
			float sum = 0;
			for (int i = 0; i < d; i++)
				sum += o[i] * o[i];
			rs[t] = 1.0f / sqrtf(sum / d + EPS);
			inv[t] = 1;
			for (int i = 0; i < d; i++)
				out[t * d + i] = down(o[i] * rs[t] * gain[i]);
		}
	}
}

/* gx += gradient through the norm of g / inv; gz (may be null) = gx * next_inv, for the projection
 * before. */
void norm_bwd(long n, int d, const float *x, const float *gain, const float *rs, const bf16 *g,
	      const float *inv, float gscale, float *gx, float *dgain, const float *next_inv,
	      bf16 *gz)
{
#pragma omp parallel
	{
		float dg[MAXW], gf[MAXW], o[MAXW];
		memset(dg, 0, sizeof(float) * d);
#pragma omp for schedule(static)
		for (long t = 0; t < n; t++) {
			float k = gscale / inv[t];
			for (int i = 0; i < d; i++)
				gf[i] = up(g[t * d + i]) * k;
			norm_bwd_row(x + t * d, gain, rs[t], gf, d, o, dg);
			float *gr = gx + t * d;
			for (int i = 0; i < d; i++)
				gr[i] += o[i];
			if (gz)
				for (int i = 0; i < d; i++)
					gz[t * d + i] = down(gr[i] * next_inv[t]);
		}
#pragma omp critical
		for (int i = 0; i < d; i++)
			dgain[i] += dg[i];
	}
}

/* qkv [B*T][(H+2K)*hd] -> q [B][H][T][hd] (scaled by 1/sqrt(hd)), k, v [B][K][T][hd], with NEOX
 * rotation of q and k. */
void rope_split(int B, int T, int H, int K, int hd, const bf16 *qkv, const float *inv,
		const float *ws, const float *cs, const float *sn, bf16 *q, bf16 *k, bf16 *v)
{
	int half = hd / 2, width = (H + 2 * K) * hd;
	float root = 1.0f / sqrtf((float)hd);
#pragma omp parallel for schedule(static)
	for (int bt = 0; bt < B * T; bt++) {
		int b = bt / T, t = bt % T;
		const bf16 *row = qkv + (long)bt * width;
		const float *c = cs + t * half, *s = sn + t * half;
		for (int h = 0; h < H + 2 * K; h++, row += hd) {
			bf16 *o = h < H       ? q + (((long)b * H + h) * T + t) * hd
				  : h < H + K ? k + (((long)b * K + h - H) * T + t) * hd
					      : v + (((long)b * K + h - H - K) * T + t) * hd;
			float w = inv[bt] * (h < H ? ws[0] * root : h < H + K ? ws[1] : ws[2]);
			if (h < H + K)
				for (int i = 0; i < half; i++) {
					float a = up(row[i]) * w, z = up(row[i + half]) * w;
					o[i] = down(a * c[i] - z * s[i]);
					o[i + half] = down(z * c[i] + a * s[i]);
				}
			else
				for (int i = 0; i < hd; i++)
					o[i] = down(up(row[i]) * w);
		}
	}
}

/* The transpose of rope_split; the result is multiplied by inv (see train.py: gz). */
void rope_merge(int B, int T, int H, int K, int hd, const bf16 *dq, const bf16 *dk, const bf16 *dv,
		const float *inv, const float *cs, const float *sn, bf16 *out)
{
	int half = hd / 2, width = (H + 2 * K) * hd;
	float root = 1.0f / sqrtf((float)hd);
#pragma omp parallel for schedule(static)
	for (int bt = 0; bt < B * T; bt++) {
		int b = bt / T, t = bt % T;
		bf16 *row = out + (long)bt * width;
		const float *c = cs + t * half, *s = sn + t * half;
		for (int h = 0; h < H + 2 * K; h++, row += hd) {
			const bf16 *g = h < H       ? dq + (((long)b * H + h) * T + t) * hd
					: h < H + K ? dk + (((long)b * K + h - H) * T + t) * hd
						    : dv + (((long)b * K + h - H - K) * T + t) * hd;
			float w = inv[bt] * (h < H ? root : 1.0f);
			if (h < H + K)
				for (int i = 0; i < half; i++) {
					float a = up(g[i]) * w, z = up(g[i + half]) * w;
					row[i] = down(a * c[i] + z * s[i]);
					row[i + half] = down(z * c[i] - a * s[i]);
				}
			else
				for (int i = 0; i < hd; i++)
					row[i] = down(up(g[i]) * w);
		}
	}
}

/* Causal softmax of [rows][T] in place; row r belongs to position r % T. */
void softmax_causal(long rows, int T, bf16 *s)
{
#pragma omp parallel for schedule(static)
	for (long r = 0; r < rows; r++) {
		bf16 *p = s + r * T;
		int m = (int)(r % T) + 1;
		float e[MAXW], top = -1e30f, sum = 0;
		for (int i = 0; i < m; i++)
			top = fmaxf(top, up(p[i]));
		for (int i = 0; i < m; i++)
			e[i] = expf(up(p[i]) - top);
		for (int i = 0; i < m; i++)
			sum += e[i];
		sum = 1 / sum;
		for (int i = 0; i < m; i++)
			p[i] = down(e[i] * sum);
		memset(p + m, 0, sizeof(bf16) * (T - m));
	}
}

/* dS = P * (dP - sum(P * dP)), written over dP. */
void softmax_bwd(long rows, int T, const bf16 *prob, bf16 *grad)
{
#pragma omp parallel for schedule(static)
	for (long r = 0; r < rows; r++) {
		const bf16 *p = prob + r * T;
		bf16 *g = grad + r * T;
		int m = (int)(r % T) + 1;
		float dot = 0;
		for (int i = 0; i < m; i++)
			dot += up(p[i]) * up(g[i]);
		for (int i = 0; i < m; i++)
			g[i] = down(up(p[i]) * (up(g[i]) - dot));
		memset(g + m, 0, sizeof(bf16) * (T - m));
	}
}

/* Heads [B][H][T][hd] -> rows [B*T][H*hd], RMSNorm, quantization. */
void heads_norm_quant(int B, int T, int H, int hd, const bf16 *heads, const float *gain, bf16 *out,
		      float *rs, float *inv)
{
	int d = H * hd;
#pragma omp parallel for schedule(static)
	for (int bt = 0; bt < B * T; bt++) {
		float x[MAXW];
		for (int h = 0; h < H; h++) {
			const bf16 *p = heads + (((long)(bt / T) * H + h) * T + bt % T) * hd;
			for (int i = 0; i < hd; i++)
				x[h * hd + i] = up(p[i]);
		}
		norm_quant_row(x, gain, d, out + (long)bt * d, rs + bt, inv + bt);
	}
}

void heads_norm_bwd(int B, int T, int H, int hd, const bf16 *heads, const float *gain,
		    const float *rs, const bf16 *g, const float *inv, bf16 *out, float *dgain)
{
	int d = H * hd;
#pragma omp parallel
	{
		float dg[MAXW], x[MAXW], gf[MAXW], o[MAXW];
		memset(dg, 0, sizeof(float) * d);
#pragma omp for schedule(static)
		for (int bt = 0; bt < B * T; bt++) {
			for (int h = 0; h < H; h++) {
				const bf16 *p =
					heads + (((long)(bt / T) * H + h) * T + bt % T) * hd;
				for (int i = 0; i < hd; i++)
					x[h * hd + i] = up(p[i]);
			}
			float k = 1 / inv[bt];
			for (int i = 0; i < d; i++)
				gf[i] = up(g[(long)bt * d + i]) * k;
			norm_bwd_row(x, gain, rs[bt], gf, d, o, dg);
			for (int h = 0; h < H; h++) {
				bf16 *p = out + (((long)(bt / T) * H + h) * T + bt % T) * hd;
				for (int i = 0; i < hd; i++)
					p[i] = down(o[h * hd + i]);
			}
		}
#pragma omp critical
		for (int i = 0; i < d; i++)
			dgain[i] += dg[i];
	}
}

/* gate and up [n][2F] -> relu(gate)^2 * up, RMSNorm, quantization. */
void ffn_mid(long n, int F, const bf16 *gu, const float *inv, const float *ws, const float *gain,
	     bf16 *out, float *rs, float *inv_out)
{
#pragma omp parallel for schedule(static)
	for (long t = 0; t < n; t++) {
		float x[MAXW];
		const bf16 *g = gu + t * 2 * F, *u = g + F;
		float kg = inv[t] * ws[0], ku = inv[t] * ws[1];
		for (int i = 0; i < F; i++) {
			float a = fmaxf(up(g[i]) * kg, 0);
			x[i] = a * a * up(u[i]) * ku;
		}
		norm_quant_row(x, gain, F, out + t * F, rs + t, inv_out + t);
	}
}

/* g is the gradient of the normed row times inv_out; out = gradient of gate and up, times inv. */
void ffn_mid_bwd(long n, int F, const bf16 *gu, const float *inv, const float *ws,
		 const float *gain, const float *rs, const float *inv_out, const bf16 *g, bf16 *out,
		 float *dgain)
{
#pragma omp parallel
	{
		float dg[MAXW], x[MAXW], gf[MAXW], o[MAXW];
		memset(dg, 0, sizeof(float) * F);
#pragma omp for schedule(static)
		for (long t = 0; t < n; t++) {
			const bf16 *gr = gu + t * 2 * F, *ur = gr + F;
			float kg = inv[t] * ws[0], ku = inv[t] * ws[1], k = 1 / inv_out[t];
			for (int i = 0; i < F; i++) {
				float a = fmaxf(up(gr[i]) * kg, 0);
				x[i] = a * a * up(ur[i]) * ku;
				gf[i] = up(g[t * F + i]) * k;
			}
			norm_bwd_row(x, gain, rs[t], gf, F, o, dg);
			for (int i = 0; i < F; i++) {
				float a = fmaxf(up(gr[i]) * kg, 0), b = up(ur[i]) * ku;
				out[t * 2 * F + i] = down(o[i] * 2 * a * b * inv[t]);
				out[t * 2 * F + F + i] = down(o[i] * a * a * inv[t]);
			}
		}
#pragma omp critical
		for (int i = 0; i < F; i++)
			dgain[i] += dg[i];
	}
}

/* Cross-entropy: logits [n][V] become softmax - onehot; loss[t] in nats. */
void cross_entropy(long n, int V, bf16 *logits, const int64_t *target, float *loss)
{
#pragma omp parallel for schedule(static)
	for (long t = 0; t < n; t++) {
		static __thread float e[65536];
		bf16 *p = logits + t * V;
		float top = -1e30f, sum = 0;
		for (int i = 0; i < V; i++)
			top = fmaxf(top, up(p[i]));
		for (int i = 0; i < V; i++)
			e[i] = expf(up(p[i]) - top);
		for (int i = 0; i < V; i++)
			sum += e[i];
		loss[t] = logf(sum) - (up(p[target[t]]) - top);
		float r = 1 / sum;
		e[target[t]] -= sum;
		for (int i = 0; i < V; i++)
			p[i] = down(e[i] * r);
	}
}

/* Absmean ternarization of one matrix [rows][cols]: ternary and effective weights in bf16, the
 * ternary one transposed into column block [col0, col0+rows) of a [cols][stride] matrix. Returns
 * mean|W|. */
float ternarize(long rows, long cols, const float *w, bf16 *t_transposed, long stride, long col0,
		bf16 *effective)
{
	double sum = 0;
#pragma omp parallel for reduction(+ : sum)
	for (long r = 0; r < rows; r++) {
		float s = 0;
		for (long c = 0; c < cols; c++)
			s += fabsf(w[r * cols + c]);
		sum += s;
	}
	float mean = fmaxf((float)(sum / ((double)rows * cols)), 1e-5f), k = 1 / mean;
#pragma omp parallel for
	for (long c0 = 0; c0 < cols; c0 += 32)
		for (long r = 0; r < rows; r++)
			for (long c = c0; c < c0 + 32; c++) {
				float t = fminf(fmaxf(rintf(w[r * cols + c] * k), -1), 1);
				t_transposed[c * stride + col0 + r] = down(t);
				effective[r * cols + c] = down(t * mean);
			}
	return mean;
}
