/* SPDX-License-Identifier: MIT */
/* The plans of a store's faults, written from outside: the libraries do not export far_inject(). */
#include "hold_far.h"

#include "agent/agent.h"
#include "far/store.h"

#include <unistd.h>

_Static_assert((int)HOLD_FAR_READ == (int)FAR_FAULT_READ && (int)HOLD_FAR_WRITE == (int)FAR_FAULT_WRITE &&
		       (int)HOLD_FAR_CORRUPT == (int)FAR_FAULT_CORRUPT && (int)HOLD_FAR_FULL == (int)FAR_FAULT_FULL,
	       "kinds agree");

void hold_far_fail(struct gw_engine *e, int node, enum hold_far kind, unsigned int skip, unsigned int nr)
{
	struct far *f = e->mm.far[node];

	/* A plan is looked at only where there is one. Who is looking just now ends before it is changed. */
	__atomic_store_n(&f->injecting, 0, __ATOMIC_SEQ_CST);
	usleep(10000);
	for (int k = 0; k < FAR_FAULTS; k++)
		f->plan[k] = (struct far_plan){ 0, 0 };
	f->plan[kind] = (struct far_plan){ skip, nr };
	__atomic_store_n(&f->injecting, nr > 0, __ATOMIC_SEQ_CST);
}
