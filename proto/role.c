/* The role objects exist so that Clang's thread safety analysis has something to name. */
#include "proto/role.h"

struct bn_role bn_role_loop, bn_role_lead, bn_role_lane, bn_role_helper;
