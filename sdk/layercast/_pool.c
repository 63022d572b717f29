/* layercast._pool: threads that help whoever has work that can be shared (native/pool.h).
 *
 * Nobody waits for one to come, only for what it has taken: on a busy machine the caller does all the work itself. Whoever
 * waits looks for a moment before it sleeps: to be woken takes as long as a third of the calls that share work, of which a
 * picture has fifty, one soon after the other. Helpers are gone after a fork, until the next time. Without POSIX threads
 * the caller is always alone. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "native/pool.h"

#if defined(__unix__) || defined(__APPLE__)

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

#define MAX_HELPERS 63
#define LOOKS_NS 100000 /* with four times as many decoding took 1 to 2 % less, within what was measured */

typedef struct {
    Work *work;
    void *context;
    atomic_int inside; /* helpers that are at work */
} Offer;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t wanted, idle;
    Offer *offer;
    atomic_int room; /* helpers that may still come to it */
    int helpers, asleep, watches_forks;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wanted = PTHREAD_COND_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Look until the number is 0, or is not, or it takes too long. */
static void look(atomic_int *number, bool until_0)
{
    for (int64_t end = now_ns() + LOOKS_NS; now_ns() < end;)
        for (int i = 0; i < 16; i++) {
            if (!atomic_load_explicit(number, memory_order_acquire) == until_0)
                return;
            pause_briefly();
        }
}

static void *help(void *unused)
{
    for (;;) {
        look(&pool.room, false);
        pthread_mutex_lock(&pool.lock);
        for (pool.asleep++; !pool.room;)
            pthread_cond_wait(&pool.wanted, &pool.lock);
        pool.asleep--;
        Offer *offer = pool.offer;
        pool.room--;
        offer->inside++;
        pthread_mutex_unlock(&pool.lock);
        offer->work(offer->context);
        pthread_mutex_lock(&pool.lock);
        if (!--offer->inside) /* which may end the offer */
            pthread_cond_broadcast(&pool.idle);
        pthread_mutex_unlock(&pool.lock);
    }
    return unused;
}

static void forget(void)
{
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wanted, NULL);
    pthread_cond_init(&pool.idle, NULL);
    pool.offer = NULL;
    pool.room = pool.helpers = pool.asleep = 0;
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

static void share_with_helpers(Work *work, void *context, int threads)
{
    const int count = threads - 1 < MAX_HELPERS ? threads - 1 : MAX_HELPERS;
    Offer offer = {.work = work, .context = context};
    pthread_mutex_lock(&pool.lock);
    const bool offered = count > 0 && !pool.offer; /* one has all helpers: another caller goes on alone */
    if (offered) {
        hire(count);
        pool.offer = &offer;
        pool.room = count;
        for (int i = 0; i < count && i < pool.asleep; i++)
            pthread_cond_signal(&pool.wanted);
    }
    pthread_mutex_unlock(&pool.lock);
    work(context);
    if (!offered)
        return;
    pthread_mutex_lock(&pool.lock);
    pool.offer = NULL;
    pool.room = 0;
    pthread_mutex_unlock(&pool.lock);
    look(&offer.inside, true);
    pthread_mutex_lock(&pool.lock);
    while (offer.inside)
        pthread_cond_wait(&pool.idle, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

#else

static void share_with_helpers(Work *work, void *context, int threads)
{
    (void)threads;
    work(context);
}

#endif

static Share *const SHARE = share_with_helpers; /* a capsule holds no address of a function */

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "layercast._pool", .m_size = -1};

PyMODINIT_FUNC PyInit__pool(void)
{
    PyObject *made = PyModule_Create(&module);
    PyObject *capsule = PyCapsule_New((void *)&SHARE, "layercast._pool.share", NULL);
    if (!made || !capsule || PyModule_AddObject(made, "share", capsule)) {
        Py_XDECREF(capsule);
        Py_CLEAR(made);
    }
    return made;
}
