/*
 * Thread marks. Every function that is not BN_ON_ANY says which thread may call it, and Clang's
 * -Wthread-safety checks it: the marks are *role capabilities*. gcc sees nothing.
 *
 * It does not create threads or locks. Floor 0.
 *
 *   loop    libuv and all bookkeeping; never computes, never waits
 *   lead    the scheduler; lane 0 of the team
 *   lane    forward pass and kernels (the lead is a lane too while a task runs)
 *   helper  loading, packing, tokenising; gets one job, returns it
 */
#ifndef BN_PROTO_ROLE_H
#define BN_PROTO_ROLE_H

#if defined(__clang__)
#define BN_CAPABILITY(x) __attribute__((x))
#else
#define BN_CAPABILITY(x)
#endif

struct BN_CAPABILITY(capability("role")) bn_role {
	char unused;
};

/* Never touched at run time; they only give the compiler something to name. */
extern struct bn_role bn_role_loop, bn_role_lead, bn_role_lane, bn_role_helper;

#define BN_ON_LOOP   BN_CAPABILITY(requires_capability(bn_role_loop))
#define BN_ON_LEAD   BN_CAPABILITY(requires_capability(bn_role_lead))
#define BN_ON_LANE   BN_CAPABILITY(requires_capability(bn_role_lane))
#define BN_ON_HELPER BN_CAPABILITY(requires_capability(bn_role_helper))
#define BN_ON_ANY

/* First line of a thread's main or of a library callback: "from here on I am this role". */
static inline void bn_enter_loop(void) BN_CAPABILITY(assert_capability(bn_role_loop));
static inline void bn_enter_lead(void) BN_CAPABILITY(assert_capability(bn_role_lead));
static inline void bn_enter_lane(void) BN_CAPABILITY(assert_capability(bn_role_lane));
static inline void bn_enter_helper(void) BN_CAPABILITY(assert_capability(bn_role_helper));

static inline void bn_enter_loop(void)
{
}

static inline void bn_enter_lead(void)
{
}

static inline void bn_enter_lane(void)
{
}

static inline void bn_enter_helper(void)
{
}

#endif
