/*
 * exp and ln for the sampler, whose seed promise must not depend on a libm: the same bits on every
 * processor, being made of operations that IEEE 754 rounds the same everywhere.
 *
 * They do not cover the whole line: the sampler needs e^x of what is not positive and ln of what
 * is. Both are within 2 units in the last place. Any thread.
 */
#ifndef BN_ENGINE_NUMBERS_H
#define BN_ENGINE_NUMBERS_H

/* e^x for x <= 0; 0 below -700 and for NaN. */
double bn_numbers_exp(double x);

/* ln x for normal x > 0. */
double bn_numbers_log(double x);

#endif
