/* layercast.runtime._programs: runs programs of operations on uint8 and float32 tensors, those of a codec's networks.

`programs/` makes a program of an ONNX graph; here each row of an output is computed at once, for every operation of a
stage before the next row, and rows of a later stage as soon as they can be, so that what lies between operations stays
in the cache (`native/fronts.h`). There are x86-64 instructions for AVX2 and AVX-512 VNNI; elsewhere `SETS` is empty and
ONNX Runtime does the work.

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
#include "../native/pool.h"
#include "native/fronts.h"

#define MAX_ARRAYS 64 /* that a call brings */

/* What one call brings: writes the addresses of its arrays to where operations have them. `moving`: (number in the
operations, which array, bytes from its start) of each. Returns 0 with an exception set. */
static int place(const Py_buffer *operations, const Py_buffer *moving, const Py_buffer *arrays, Py_ssize_t count)
{
    int64_t *to = operations->buf;
    const int64_t *row = moving->buf, *end = row + moving->len / (Py_ssize_t)sizeof *row;
    for (; row + 3 <= end; row += 3) {
        if (row[0] < 0 || row[0] >= operations->len / (Py_ssize_t)sizeof *to || row[1] < 0 || row[1] >= count ||
            row[2] < 0 || row[2] > arrays[row[1]].len) {
            PyErr_SetString(PyExc_ValueError, "an address outside its array");
            return 0;
        }
        to[row[0]] = (int64_t)(intptr_t)arrays[row[1]].buf + row[2];
    }
    return 1;
}

/* See `methods`. */
static PyObject *run(PyObject *self, PyObject *args)
{
    Py_buffer stages, needs, operations, moving, arrays[MAX_ARRAYS];
    PyObject *list;
    Py_ssize_t scratch, count = 0;
    int threads, set;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*w*y*O!nii", &stages, &needs, &operations, &moving, &PyList_Type, &list, &scratch,
                          &threads, &set))
        return NULL;
    Job job = {.stages = stages.buf,
               .count = stages.len / (Py_ssize_t)sizeof(Stage),
               .needs = needs.buf,
               .operations = operations.buf,
               .scratch = scratch};
    const bool known = (set == AVX2 && has_avx2()) || (set == VNNI && has_vnni());
    bool fits = known && scratch >= 0 && job.count <= MAX_STAGES && PyList_GET_SIZE(list) <= MAX_ARRAYS &&
                operations.len % (Py_ssize_t)sizeof(Operation) == 0;
    if (!fits)
        PyErr_SetString(PyExc_ValueError, known ? "no program" : "no such set of instructions here");
    while (fits && count < PyList_GET_SIZE(list)) {
        fits = !PyObject_GetBuffer(PyList_GET_ITEM(list, count), &arrays[count], PyBUF_SIMPLE);
        count += fits;
    }
    if (fits && (fits = place(&operations, &moving, arrays, count))) {
        job.rows = ROWS[set];
        Py_BEGIN_ALLOW_THREADS
        prepare(&job, threads);
        share(take_part, &job, threads);
        Py_END_ALLOW_THREADS
    }
    while (count)
        PyBuffer_Release(&arrays[--count]);
    PyBuffer_Release(&moving);
    PyBuffer_Release(&needs);
    PyBuffer_Release(&stages);
    PyBuffer_Release(&operations);
    if (!fits)
        return NULL;
    return atomic_load(&job.worked) ? Py_NewRef(Py_None) : PyErr_NoMemory();
}
#endif

static PyMethodDef methods[] = {
#if SUPPORTED
    {"run", run, METH_VARARGS,
     "run(stages, needs, operations, moving, [array], scratch bytes, threads, set of instructions)\n\n"
     "`moving`: where in the operations addresses in the arrays go, see `place`."},
#endif
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_programs", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__programs(void)
{
#if SUPPORTED
    if (!find_pool())
        return NULL;
#endif
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
        PyModule_AddIntConstant(m, "MAX_ARRAYS", MAX_ARRAYS) ||
        PyModule_AddIntConstant(m, "OPERATION", sizeof(Operation) / sizeof(int64_t)))
        return NULL;
#endif
    if (PyModule_AddObject(m, "SETS", sets))
        return NULL;
    return m;
}
