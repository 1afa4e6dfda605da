/*
 * bn_assert states what the programmer promises, stays in releases (kernels excepted) and aborts
 * with the place. Input from outside is never asserted, it is checked. Floor 0.
 */
#ifndef BN_PROTO_ASSERT_H
#define BN_PROTO_ASSERT_H

#include <stdio.h>
#include <stdlib.h>

#define bn_assert(condition)                                                                    \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			fprintf(stderr, "bnd: %s:%d: broken promise: %s\n", __FILE__, __LINE__, \
				#condition);                                                    \
			abort();                                                                \
		}                                                                               \
	} while (0)

#endif
