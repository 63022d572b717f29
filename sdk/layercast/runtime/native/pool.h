/* Threads that help whoever has work that can be shared. Nobody waits for one to come, only for what it has taken: on a
busy machine the caller does all the work itself. They sleep in between, and are gone after a fork, until the next time.
Without POSIX threads the caller is always alone. Each extension module that includes this has its own. */
#ifndef LAYERCAST_POOL_H
#define LAYERCAST_POOL_H

#include <stdatomic.h>
#include <stdint.h>

/* Part of some work: takes pieces of it until none is left, and returns when all are finished or others have them. */
typedef void Work(void *context);

#if defined(__unix__) || defined(__APPLE__)

#include <pthread.h>
#include <signal.h>

#define MAX_HELPERS 63

typedef struct {
    Work *work;
    void *context;
    int room, inside; /* helpers that may still come, that are at work */
} Offer;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wanted, idle;
    Offer *offer;
    int helpers, watches_forks;
} pool = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, 0, 0};

static void *help(void *unused)
{
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (!pool.offer || !pool.offer->room)
            pthread_cond_wait(&pool.wanted, &pool.lock);
        Offer *offer = pool.offer;
        offer->room--;
        offer->inside++;
        pthread_mutex_unlock(&pool.lock);
        offer->work(offer->context);
        pthread_mutex_lock(&pool.lock);
        if (!--offer->inside)
            pthread_cond_broadcast(&pool.idle);
    }
    return unused;
}

static void forget(void)
{
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wanted, NULL);
    pthread_cond_init(&pool.idle, NULL);
    pool.offer = NULL;
    pool.helpers = 0;
}

/* Start helpers until there are so many; fewer where the system gives no more. Under the lock. */
static void hire(int count)
{
    sigset_t all, before;
    pthread_attr_t detached;
    if (pool.helpers >= count || pthread_attr_init(&detached))
        return;
    if (!pool.watches_forks)
        pool.watches_forks = !pthread_atfork(NULL, NULL, forget);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    sigfillset(&all); /* signals are the interpreter's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (pthread_t thread; pool.helpers < count && !pthread_create(&thread, &detached, help, NULL);)
        pool.helpers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
}

/* Do the work with up to so many threads, the caller's among them. */
static void share(Work *work, void *context, int threads)
{
    const int count = threads - 1 < MAX_HELPERS ? threads - 1 : MAX_HELPERS;
    Offer offer = {work, context, count, 0};
    pthread_mutex_lock(&pool.lock);
    const int offered = count > 0 && !pool.offer; /* one has all helpers: another caller goes on alone */
    if (offered) {
        hire(count);
        pool.offer = &offer;
        for (int i = 0; i < count; i++)
            pthread_cond_signal(&pool.wanted);
    }
    pthread_mutex_unlock(&pool.lock);
    work(context);
    if (!offered)
        return;
    pthread_mutex_lock(&pool.lock);
    pool.offer = NULL;
    while (offer.inside)
        pthread_cond_wait(&pool.idle, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

#else

static void share(Work *work, void *context, int threads)
{
    (void)threads;
    work(context);
}

#endif

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
