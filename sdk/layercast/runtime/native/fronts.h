/* The order in which a program's rows are computed.

The picture is cut into fronts, bands that threads take. In each, rows are computed one after the other in every stage,
a few at a time, and those of a later stage as soon as they can be, so that what stages hand to each other is still in
the cache when it is needed. Measured with synthesis: 8 % less time than stage after stage; one row at a time 5 % more.

Fronts come in pairs that begin where they touch and move away from each other: what one needs of the other at their
border is there early, and so is what it needs where it meets the next pair, which arrives at the same time. */
#ifndef LAYERCAST_FRONTS_H
#define LAYERCAST_FRONTS_H

#include <sched.h>
#include <stdatomic.h>

#include "operation.h"
#include "rows.h"

#define MAX_STAGES 32
#define MAX_FRONTS 64
#define FRONTS_EACH 4 /* for a thread: with one each, all wait for whose core is slowest just now */
#define BATCH 4       /* rows that a stage computes at a time: its weights are in the cache for all but the first */
#define AHEAD 12      /* rows that a stage may be ahead of the next: more than BATCH and what a row needs of others */
#define PATIENCE 4000 /* pauses before a thread that waits for another's row offers its core */

typedef struct {
    atomic_bool held; /* by the thread that computes its rows */
    _Atomic int64_t done[MAX_STAGES];
} Front;

typedef struct {
    const Stage *stages;
    int64_t count;
    const Need *needs;
    const Operation *operations;
    int64_t scratch; /* bytes that one thread needs */
    Row *const *rows; /* by kind of operation */
    int64_t fronts;
    Front front[MAX_FRONTS];
    _Atomic int64_t left; /* rows of all stages */
    _Atomic int64_t entered;
    atomic_bool worked;
} Job;

/* One front goes down; of more, every second goes up. */
static bool goes_up(const Job *job, int64_t front)
{
    return job->fronts > 1 && front % 2 == 0;
}

static int64_t front_begin(const Job *job, const Stage *stage, int64_t front)
{
    return stage->rows * front / job->fronts;
}

static int64_t front_size(const Job *job, const Stage *stage, int64_t front)
{
    return front_begin(job, stage, front + 1) - front_begin(job, stage, front);
}

static void prepare(Job *job, int threads)
{
    int64_t fronts = threads < 2 ? 1 : (threads + 1) / 2 * 2 * FRONTS_EACH;
    job->fronts = fronts < MAX_FRONTS ? fronts : MAX_FRONTS;
    int64_t left = 0;
    for (int64_t s = 0; s < job->count; s++)
        left += job->stages[s].rows;
    atomic_store(&job->left, left);
}

static bool is_done(Job *job, int64_t s, int64_t y)
{
    const Stage *stage = &job->stages[s];
    int64_t f = y * job->fronts / stage->rows; /* or one more or less, where that does not divide */
    while (y < front_begin(job, stage, f))
        f--;
    while (y >= front_begin(job, stage, f + 1))
        f++;
    const int64_t done = atomic_load_explicit(&job->front[f].done[s], memory_order_acquire);
    return goes_up(job, f) ? front_begin(job, stage, f + 1) - y <= done : y - front_begin(job, stage, f) < done;
}

static bool is_ready(Job *job, int64_t s, int64_t y)
{
    const Stage *stage = &job->stages[s];
    for (int64_t n = stage->first_need; n < stage->end_need; n++) {
        const Need *need = &job->needs[n];
        const int64_t rows = job->stages[need->stage].rows, low = y - need->reach, high = y + 1 + need->reach;
        int64_t first = low > 0 ? low * rows / stage->rows : 0;
        int64_t last = high < stage->rows ? (high * rows - 1) / stage->rows : rows - 1;
        for (; first <= last; first++)
            if (!is_done(job, need->stage, first))
                return false;
    }
    return true;
}

static void compute(const Job *job, const Stage *stage, uint8_t *scratch, int64_t y)
{
    for (const Operation *op = job->operations + stage->first; op < job->operations + stage->end; op++)
        job->rows[op->kind](op, scratch, y);
}

/* Compute some rows of a front that is held: of the last stage that has one ready. Returns false if none has. */
static bool advance(Job *job, int64_t f, uint8_t *scratch)
{
    Front *front = &job->front[f];
    for (int64_t s = job->count - 1; s >= 0; s--) {
        const Stage *stage = &job->stages[s];
        const int64_t size = front_size(job, stage, f);
        int64_t done = atomic_load_explicit(&front->done[s], memory_order_relaxed), left = size - done;
        if (left > BATCH)
            left = BATCH;
        if (s + 1 < job->count) {
            const int64_t next = atomic_load_explicit(&front->done[s + 1], memory_order_relaxed);
            if (done * stage[1].rows > (next + AHEAD) * stage->rows && next < front_size(job, stage + 1, f))
                continue;
        }
        bool advanced = false;
        for (; left; left--) {
            const int64_t begin = front_begin(job, stage, f);
            const int64_t y = goes_up(job, f) ? begin + size - 1 - done : begin + done;
            if (!is_ready(job, s, y))
                break;
            compute(job, stage, scratch, y);
            atomic_store_explicit(&front->done[s], ++done, memory_order_release);
            atomic_fetch_sub_explicit(&job->left, 1, memory_order_release);
            advanced = true;
        }
        if (advanced)
            return true;
    }
    return false;
}

/* Compute rows until all are; does nothing where there is no memory. */
static void take_part(void *context)
{
    Job *job = context;
    uint8_t *scratch = aligned_alloc(64, ((size_t)job->scratch / 64 + 2) * 64);
    if (!scratch)
        return;
    const int64_t own = atomic_fetch_add(&job->entered, 1);
    int waited = 0;
    while (atomic_load_explicit(&job->left, memory_order_acquire)) {
        bool advanced = false;
        for (int64_t i = 0; i < job->fronts && !advanced; i++) {
            Front *front = &job->front[(own + i) % job->fronts];
            if (atomic_exchange_explicit(&front->held, true, memory_order_acquire))
                continue;
            while (advance(job, (own + i) % job->fronts, scratch))
                advanced = true;
            atomic_store_explicit(&front->held, false, memory_order_release);
        }
        if (advanced)
            waited = 0;
        else if (waited++ < PATIENCE)
            __builtin_ia32_pause();
        else
            sched_yield();
    }
    atomic_store(&job->worked, true);
    free(scratch);
}

#endif
