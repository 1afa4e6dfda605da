/*
 * The gated activations for one number: what the vector files repeat in their instructions and use
 * for the elements behind the last whole vector.
 *
 * It holds no loops; the steps themselves are in kernels/order.h.
 */
#ifndef BN_KERNELS_GATE_H
#define BN_KERNELS_GATE_H

#include "kernels/order.h"
#include "kernels/vec.h"

static inline float bn_gate(float g, enum bn_activation act)
{
	switch (act) {
	case BN_ACT_SILU:
		return bn_silu(g);
	case BN_ACT_RELU2:
		return bn_relu2(g);
	case BN_ACT_GELU:
		return bn_gelu(g);
	}
	return g;
}

#endif
