/* The array work of a walk, one pass each; `kernels.py` says what each function does and has the same in NumPy.
 *
 * Arrays come as buffers, flat and contiguous, and are checked for size; every index read from one is checked before
 * it is used, so that no input reads or writes outside them. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#define KEYS 2048
#define MIRROR 1024
#define LOGITS 65536
#define MAX_CHANNELS 1024
#define ZERO 128

static int fits(const Py_buffer *b, Py_ssize_t items, size_t size, const char *name)
{
    if (b->len == items * (Py_ssize_t)size)
        return 1;
    PyErr_Format(PyExc_ValueError, "%s has %zd bytes, expected %zd items of %zu", name, b->len, items, size);
    return 0;
}

static PyObject *finish(Py_buffer *buffers, int n, int checked, int inside)
{
    for (int i = 0; i < n; i++)
        PyBuffer_Release(&buffers[i]);
    if (!checked)
        return NULL; /* the error is set */
    if (!inside) {
        PyErr_SetString(PyExc_ValueError, "an index outside its array");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *row_keys(PyObject *self, PyObject *args)
{
    Py_buffer b[4];
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*w*", &b[0], &b[1], &b[2], &b[3]))
        return NULL;
    Py_ssize_t n = b[0].len;
    int checked = fits(&b[1], n, 1, "tilt") && fits(&b[2], LOGITS, 2, "table") && fits(&b[3], n, 2, "out");
    if (checked) {
        const uint8_t *centre = b[0].buf, *tilt = b[1].buf;
        const int16_t *table = b[2].buf;
        int16_t *out = b[3].buf;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < n; i++)
            out[i] = table[centre[i] << 8 | tilt[i]];
        Py_END_ALLOW_THREADS
    }
    return finish(b, 4, checked, 1);
}

static PyObject *row_keys_at(PyObject *self, PyObject *args)
{
    Py_buffer b[6];
    int inside = 1;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*w*w*", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]))
        return NULL;
    Py_ssize_t n = b[0].len / 8, size = b[1].len;
    int checked = fits(&b[0], n, 8, "at") && fits(&b[2], size, 1, "tilt") && fits(&b[3], LOGITS, 2, "table") &&
                  fits(&b[4], size, 2, "keys") && fits(&b[5], n, 2, "out");
    if (checked) {
        const int64_t *at = b[0].buf;
        const uint8_t *centre = b[1].buf, *tilt = b[2].buf;
        const int16_t *table = b[3].buf;
        int16_t *keys = b[4].buf, *out = b[5].buf;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < n && inside; i++) {
            int64_t p = at[i];
            if ((inside = p >= 0 && p < size))
                keys[p] = out[i] = table[centre[p] << 8 | tilt[p]];
        }
        Py_END_ALLOW_THREADS
    }
    return finish(b, 6, checked, inside);
}

/* Where a channel's entries begin in a table by `weight * KEYS + key`; 0 if there are more channels than fit. */
static int entries(const Py_buffer *weights, Py_ssize_t n, Py_ssize_t size, int32_t begins[MAX_CHANNELS])
{
    Py_ssize_t channels = weights->len;
    const uint8_t *weight = weights->buf;
    if (channels < 1 || channels > MAX_CHANNELS || n % channels)
        return 0;
    for (Py_ssize_t c = 0; c < channels; c++) {
        begins[c] = weight[c] * KEYS;
        if (begins[c] + KEYS > size)
            return 0;
    }
    return 1;
}

static PyObject *histogram(PyObject *self, PyObject *args)
{
    Py_buffer b[3];
    int inside = 0;
    int32_t begins[MAX_CHANNELS];
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*w*", &b[0], &b[1], &b[2]))
        return NULL;
    Py_ssize_t n = b[0].len / 2, channels = b[1].len, size = b[2].len / 8;
    int checked = fits(&b[0], n, 2, "keys") && fits(&b[2], size, 8, "out");
    if (checked && (inside = entries(&b[1], n, size, begins))) {
        const int16_t *keys = b[0].buf;
        int64_t *out = b[2].buf;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < n && inside; i += channels)
            for (Py_ssize_t c = 0; c < channels && (inside = (uint16_t)keys[i + c] < KEYS); c++)
                out[begins[c] + keys[i + c]]++;
        Py_END_ALLOW_THREADS
    }
    return finish(b, 3, checked, inside);
}

static PyObject *group(PyObject *self, PyObject *args)
{
    Py_buffer b[5];
    int inside = 0;
    int32_t begins[MAX_CHANNELS];
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*w*", &b[0], &b[1], &b[2], &b[3], &b[4]))
        return NULL;
    Py_ssize_t n = b[0].len / 2, channels = b[1].len, size = b[2].len, total = b[4].len / 8, counted = 0;
    Py_ssize_t groups = b[3].len / 8;
    int checked = fits(&b[0], n, 2, "keys") && fits(&b[3], groups, 8, "counts") && fits(&b[4], total, 8, "out");
    if (checked && (inside = groups < 256 && entries(&b[1], n, size, begins))) {
        const int16_t *keys = b[0].buf;
        const uint8_t *table = b[2].buf;
        const int64_t *counts = b[3].buf;
        int64_t *next[256], *end[256], nowhere, step[256];
        for (Py_ssize_t g = 0; g < 256; g++) { /* a group that does not exist is written to one place and stays */
            next[g] = &nowhere;
            end[g] = &nowhere + 1;
            step[g] = 0;
        }
        for (Py_ssize_t g = 0; g < groups && inside; g++) {
            inside = counts[g] >= 0 && counts[g] <= total - counted;
            next[g] = (int64_t *)b[4].buf + counted;
            counted += inside ? counts[g] : 0;
            end[g] = (int64_t *)b[4].buf + counted;
            step[g] = 1;
        }
        inside = inside && counted == total;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < n && inside; i += channels)
            for (Py_ssize_t c = 0; c < channels; c++) {
                if (!(inside = (uint16_t)keys[i + c] < KEYS))
                    break;
                uint8_t g = table[begins[c] + keys[i + c]];
                if (!(inside = next[g] < end[g]))
                    break;
                *next[g] = i + c;
                next[g] += step[g];
            }
        for (Py_ssize_t g = 0; g < groups && inside; g++)
            inside = next[g] == end[g];
        Py_END_ALLOW_THREADS
    }
    return finish(b, 5, checked, inside);
}

static PyObject *contexts(PyObject *self, PyObject *args)
{
    Py_buffer b[5];
    (void)self;
    if (!PyArg_ParseTuple(args, "y*w*w*w*w*", &b[0], &b[1], &b[2], &b[3], &b[4]))
        return NULL;
    Py_ssize_t n = b[0].len / 2;
    int checked = fits(&b[0], n, 2, "values");
    for (int i = 1; i < 5; i++)
        checked = checked && fits(&b[i], n, 1, "out");
    if (checked) {
        const int16_t *restrict values = b[0].buf;
        uint8_t *restrict known = b[1].buf, *restrict size = b[2].buf;
        uint8_t *restrict few = b[3].buf, *restrict sign = b[4].buf;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < n; i++) {
            int16_t v = values[i], near = v < -32 ? -32 : v > 32 ? 32 : v, quarters = (int16_t)(4 * near);
            int16_t most = near < 0 ? -near : near;
            most = most > 15 ? 15 : most;
            known[i] = (uint8_t)(ZERO + (quarters > 127 ? 127 : quarters));
            size[i] = (uint8_t)(ZERO + 8 * most);
            few[i] = (uint8_t)(most < 2 ? most : 2);
            sign[i] = (uint8_t)(1 + (v > 0) - (v < 0));
        }
        Py_END_ALLOW_THREADS
    }
    return finish(b, 5, checked, 1);
}

static PyObject *learn(PyObject *self, PyObject *args)
{
    Py_buffer b[7];
    int inside = 1;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*w*w*", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &b[6]))
        return NULL;
    Py_ssize_t n = b[0].len / 8, size = b[3].len / 2;
    int checked = fits(&b[0], n, 8, "at") && fits(&b[1], n, 4, "symbols") && fits(&b[2], n, 2, "keys") &&
                  fits(&b[3], size, 2, "values") && fits(&b[4], KEYS * 9, 1, "table") &&
                  fits(&b[5], size, 1, "trits") && fits(&b[6], size, 1, "surprise");
    if (checked) {
        const int64_t *at = b[0].buf;
        const int32_t *symbols = b[1].buf;
        const int16_t *keys = b[2].buf, *values = b[3].buf;
        const uint8_t *table = b[4].buf;
        int8_t *trits = b[5].buf;
        uint8_t *surprise = b[6].buf;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < n && inside; i++) {
            int64_t p = at[i];
            int key = keys[i], trit = symbols[i];
            if (!(inside = p >= 0 && p < size && key >= 0 && key < KEYS && trit >= -1 && trit <= 1))
                break;
            int sign = (values[p] > 0) - (values[p] < 0);
            trit = key >= MIRROR ? -trit : trit;
            trits[p] = (int8_t)trit;
            surprise[p] = table[key * 9 + 3 * trit + sign + 4];
        }
        Py_END_ALLOW_THREADS
    }
    return finish(b, 7, checked, inside);
}

static PyMethodDef methods[] = {
    {"row_keys", row_keys, METH_VARARGS, NULL},   {"row_keys_at", row_keys_at, METH_VARARGS, NULL},
    {"histogram", histogram, METH_VARARGS, NULL}, {"group", group, METH_VARARGS, NULL},
    {"contexts", contexts, METH_VARARGS, NULL},   {"learn", learn, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernels", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&module); }
