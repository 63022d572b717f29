/* layercast.runtime._programs: runs programs of operations on uint8 and float32 tensors, those of a codec's networks.

`programs/` makes a program of an ONNX graph; here each row of an output is computed at once, for every operation of a
stage before the next row, so that what lies between them stays in the cache. Rows are taken by whichever thread is
free. There are x86-64 instructions for AVX2 and AVX-512 VNNI; elsewhere `SETS` is empty and ONNX Runtime does the
work.

Programs come from `programs/` alone, which checks shapes; nothing that arrives from a network is looked at here. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__) && !defined(_WIN32)
#define SUPPORTED 1
#else
#define SUPPORTED 0
#endif

#if SUPPORTED
#include <sched.h>
#include <stdatomic.h>

#include "native/operation.h"
#include "native/pool.h"
#include "native/rows.h"

#define MAX_STAGES 32
#define PATIENCE 4000 /* pauses before a thread that waits for another's row offers its core */

typedef struct {
    const Stage *stages;
    int64_t count;
    const Operation *operations;
    int64_t scratch; /* bytes that one thread needs */
    Row *pointwise;
    _Atomic int64_t next[MAX_STAGES], done[MAX_STAGES]; /* rows taken, rows finished */
    atomic_bool worked;
} Job;

static void compute(const Job *job, const Stage *stage, uint8_t *scratch, int64_t y)
{
    for (const Operation *op = job->operations + stage->first; op < job->operations + stage->end; op++)
        (op->kind == POINTWISE ? job->pointwise : ROWS[op->kind])(op, scratch, y);
}

/* Take rows until every row of every stage is finished; does nothing where there is no memory. */
static void take_part(void *context)
{
    Job *job = context;
    uint8_t *scratch = aligned_alloc(64, ((size_t)job->scratch / 64 + 2) * 64);
    if (!scratch)
        return;
    for (int64_t s = 0; s < job->count; s++) {
        const Stage *stage = job->stages + s;
        for (int64_t y; (y = atomic_fetch_add(&job->next[s], 1)) < stage->rows;) {
            compute(job, stage, scratch, y);
            atomic_fetch_add_explicit(&job->done[s], 1, memory_order_release);
        }
        for (int i = 0; atomic_load_explicit(&job->done[s], memory_order_acquire) < stage->rows; i++) {
            if (i < PATIENCE)
                __builtin_ia32_pause();
            else
                sched_yield();
        }
    }
    atomic_store(&job->worked, true);
    free(scratch);
}

static PyObject *run(PyObject *self, PyObject *args)
{
    Py_buffer stages, operations;
    Py_ssize_t scratch;
    int threads, set;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*nii", &stages, &operations, &scratch, &threads, &set))
        return NULL;
    Job job = {.stages = stages.buf,
               .count = stages.len / (Py_ssize_t)sizeof(Stage),
               .operations = operations.buf,
               .scratch = scratch,
               .pointwise = set == VNNI ? pointwise_vnni : pointwise_avx2};
    const bool known = (set == AVX2 && has_avx2()) || (set == VNNI && has_vnni());
    const bool fits = known && scratch >= 0 && job.count <= MAX_STAGES &&
                      operations.len % (Py_ssize_t)sizeof(Operation) == 0;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        share(take_part, &job, threads);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&stages);
    PyBuffer_Release(&operations);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, known ? "no program" : "no such set of instructions here");
        return NULL;
    }
    return atomic_load(&job.worked) ? Py_NewRef(Py_None) : PyErr_NoMemory();
}
#endif

static PyMethodDef methods[] = {
#if SUPPORTED
    {"run", run, METH_VARARGS, "run(stages, operations, scratch bytes, threads, set of instructions)"},
#endif
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_programs", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__programs(void)
{
    PyObject *m = PyModule_Create(&module), *sets = PyDict_New();
    if (!m || !sets)
        return NULL;
#if SUPPORTED
    const struct {
        const char *name;
        int set, has;
    } known[] = {{"avx512vnni", VNNI, has_vnni()}, {"avx2", AVX2, has_avx2()}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        PyObject *number = PyLong_FromLong(known[i].set);
        if (!number || (known[i].has && PyDict_SetItemString(sets, known[i].name, number)))
            return NULL;
        Py_DECREF(number);
    }
    if (PyModule_AddIntConstant(m, "MAX_STAGES", MAX_STAGES) ||
        PyModule_AddIntConstant(m, "OPERATION", sizeof(Operation) / sizeof(int64_t)))
        return NULL;
#endif
    if (PyModule_AddObject(m, "SETS", sets))
        return NULL;
    return m;
}
