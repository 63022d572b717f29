/* Work that threads share, for an extension module: those of `layercast._pool`, which all of them use. Behind Python.h.
 */
#ifndef LAYERCAST_POOL_H
#define LAYERCAST_POOL_H

#include <stdatomic.h>
#include <stdint.h>

/* Part of some work: takes pieces of it until none is left, and returns when all are finished or others have them. */
typedef void Work(void *context);

/* Does some work with up to so many threads, the caller's among them. */
typedef void Share(Work *work, void *context, int threads);

static Share *share;

/* To be called by a module before it uses `share`; returns 0, with an exception set, where there is no pool. */
static int find_pool(void)
{
    PyObject *pool = PyImport_ImportModule("layercast._pool");
    PyObject *capsule = pool ? PyObject_GetAttrString(pool, "share") : NULL;
    Share **found = capsule ? PyCapsule_GetPointer(capsule, "layercast._pool.share") : NULL;
    share = found ? *found : NULL;
    Py_XDECREF(capsule); /* `pool` is kept, or its code might go */
    return share != NULL;
}

/* Work that is the same for numbers from 0 on, which threads take one after the other. */
typedef struct {
    void (*each)(void *context, int64_t number);
    void *context;
    int64_t count;
    _Atomic int64_t taken;
} Numbers;

static inline void take_numbers(void *context)
{
    Numbers *n = context;
    for (int64_t number; (number = atomic_fetch_add(&n->taken, 1)) < n->count;)
        n->each(n->context, number);
}

/* Do it for all of them with up to so many threads, no more than there are numbers. */
static inline void share_each(void (*each)(void *, int64_t), void *context, int64_t count, int threads)
{
    Numbers numbers = {each, context, count, 0};
    share(take_numbers, &numbers, count < threads ? (int)count : threads);
}

#endif
