#include "engine/numbers.h"

#include <stddef.h>
#include <stdint.h>

/* Argument reduction after Cody and Waite, then Taylor to degree 13:
 * the remainder at |r| <= ln2/2 is 4e-18. */
double bn_numbers_exp(double x)
{
	static const double c[] = {
		1.0 / 6227020800.0,
		1.0 / 479001600.0,
		1.0 / 39916800.0,
		1.0 / 3628800.0,
		1.0 / 362880.0,
		1.0 / 40320.0,
		1.0 / 5040.0,
		1.0 / 720.0,
		1.0 / 120.0,
		1.0 / 24.0,
		1.0 / 6.0,
		0.5,
		1.0,
		1.0,
	};
	const double round = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to an integer */
	double k, r, p = 0.0;
	union {
		uint64_t bits;
		double value;
	} scale;

	if (!(x > -700.0)) {
		return 0.0;
	}
	k = (x * 1.4426950408889634 + round) - round;
	r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		p = p * r + c[i];
	}
	scale.bits = (uint64_t)(1023 + (int64_t)k) << 52;
	return p * scale.value;
}

/* x = m 2^e with m in [1/sqrt 2, sqrt 2), ln m = 2 artanh((m-1)/(m+1)). */
double bn_numbers_log(double x)
{
	union {
		uint64_t bits;
		double value;
	} u = { .value = x };
	int64_t e = (int64_t)(u.bits >> 52) - 1023;
	double s, s2, p = 0.0;

	u.bits = (u.bits & ((UINT64_C(1) << 52) - 1)) | (UINT64_C(1023) << 52);
	if (u.value > 1.4142135623730951) {
		u.value *= 0.5;
		e++;
	}
	s = (u.value - 1.0) / (u.value + 1.0);
	s2 = s * s;
	for (int i = 23; i >= 3; i -= 2) {
		p = (p + 1.0 / (double)i) * s2;
	}
	return (double)e * 1.90821492927058770002e-10 +
	       (2.0 * (s + s * p) + (double)e * 6.93147180369123816490e-01);
}
