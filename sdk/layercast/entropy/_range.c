/* layercast.entropy._range: the entropy coder of docs/entropy.md, compiled. Optional: `plain.py` does the same.

Here are the Python types; what they do is in native/. Nothing of NumPy is needed: arrays come through the buffer
protocol. What a decoder gets may be hostile, so everything is checked before it is used as an index: rows when they
are copied, tables when they are made, numbers from the stream when they are found. `Tables` never change, so any
number of threads may use them; a coder serves one call at a time. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <limits.h>

#include "../native/pool.h"
#include "native/quiet.h"

/* Below, a call is shorter than waiting for another thread to hand the interpreter back. */
#define SHARED_FROM 4096

typedef struct {
    PyObject_HEAD
    PyObject *flags; /* keeps them alive */
    Tables tables;
} TablesObject;

typedef struct {
    PyObject_HEAD
    Coder coder;
    bool busy;
} CoderObject;

static PyTypeObject TablesType, DecoderType;

static bool refuse(const char *what)
{
    PyErr_SetString(PyExc_ValueError, what);
    return false;
}

/* Fill in one row's sums and the rest of it, from its frequencies. */
static bool set_row(Tables *t, uint32_t row, const char *frequencies, uint32_t at, uint8_t escaped)
{
    Row *r = &t->rows[row];
    uint32_t *sums = t->sums + at;
    r->at = at;
    r->escaped = escaped != 0;
    r->unrest = t->unrest[row];
    for (r->width = 1; r->width < r->size; r->width *= 2)
        ;
    if (t->widest < r->width)
        t->widest = r->width;
    sums[0] = 0;
    for (uint32_t i = 0; i < r->size; i++) {
        uint32_t frequency;
        memcpy(&frequency, frequencies + i * sizeof frequency, sizeof frequency);
        if (!frequency || frequency > (WHOLE >> SHIFT) - (sums[i] >> SHIFT))
            return refuse("frequencies must be positive and sum to 65536");
        sums[i + 1] = sums[i] + (frequency << SHIFT);
        if (sums[i + 1] - sums[i] > sums[r->calm + 1] - sums[r->calm] || !i)
            r->calm = (uint16_t)i;
    }
    if (sums[r->size] != WHOLE || r->size < 1u + r->escaped)
        return refuse("frequencies must be positive and sum to 65536");
    t->calm[row] = symbol_of(r, r->calm);
    bool quiet = r->unrest < UNREST_LIMIT;
    if (r->unrest > UNREST_LIMIT || (quiet && (r->size > NARROW || calm_share(t, row) < WHOLE - ((uint32_t)r->unrest << 10))))
        return refuse("a row's unrest is not that of its frequencies");
    for (int power = 0; power < POWERS; power++)
        atomic_init(&r->models[power], NULL);
    return true;
}

static bool set_tables(Tables *t, const Py_buffer *frequencies, const Py_buffer *sizes, const Py_buffer *offsets,
                       const Py_buffer *escaped, const Py_buffer *unrest)
{
    size_t rows = (size_t)escaped->len, entries = (size_t)frequencies->len / sizeof(uint32_t), total = 0;
    if (rows < 1 || rows > MAX_ROWS || entries > MAX_ENTRIES || (size_t)sizes->len != rows * sizeof(uint32_t) ||
        (size_t)offsets->len != rows * sizeof(int32_t) || (size_t)unrest->len != rows * sizeof(uint16_t))
        return refuse("arrays of the wrong length");
    t->rows = calloc(rows, sizeof *t->rows);
    t->sums = malloc((entries + rows) * sizeof *t->sums);
    t->unrest = malloc(rows * sizeof *t->unrest);
    t->calm = malloc(rows * sizeof *t->calm);
    if (!t->rows || !t->sums || !t->unrest || !t->calm) {
        PyErr_NoMemory();
        return false;
    }
    memcpy(t->unrest, unrest->buf, rows * sizeof *t->unrest);
    for (size_t row = 0; row < rows; row++) {
        Row *r = &t->rows[row];
        memcpy(&r->size, (const char *)sizes->buf + row * sizeof r->size, sizeof r->size);
        memcpy(&r->offset, (const char *)offsets->buf + row * sizeof r->offset, sizeof r->offset);
        if (r->size < 1 || r->size > entries - total || r->size > WHOLE >> SHIFT)
            return refuse("rows that are empty or longer than all entries");
        const char *from = (const char *)frequencies->buf + total * sizeof(uint32_t);
        if (!set_row(t, (uint32_t)row, from, (uint32_t)(total + row), ((const uint8_t *)escaped->buf)[row]))
            return false;
        total += r->size;
        t->count = (uint32_t)(row + 1);
    }
    return total == entries || refuse("more entries than the rows have");
}

static bool set_flags(Tables *t, TablesObject *flags, const Py_buffer *rows)
{
    if ((size_t)rows->len != sizeof t->flag_rows)
        return refuse("arrays of the wrong length");
    memcpy(t->flag_rows, rows->buf, sizeof t->flag_rows);
    for (size_t i = 0; i < sizeof t->flag_rows; i++)
        if (t->flag_rows[i] >= flags->tables.count)
            return refuse("a flag's row does not exist");
    t->flags = &flags->tables;
    return true;
}

static PyObject *tables_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    Py_buffer frequencies, sizes, offsets, escaped, unrest, rows = {0};
    PyObject *flags = NULL;
    (void)named;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*|O!y*", &frequencies, &sizes, &offsets, &escaped, &unrest, &TablesType,
                          &flags, &rows))
        return NULL;
    TablesObject *self = (TablesObject *)type->tp_alloc(type, 0);
    if (self && (!set_tables(&self->tables, &frequencies, &sizes, &offsets, &escaped, &unrest) ||
                 (flags && !(rows.obj ? set_flags(&self->tables, (TablesObject *)flags, &rows)
                                      : refuse("flags without their rows"))))) {
        Py_DECREF(self);
        self = NULL;
    }
    if (self && flags) {
        Py_INCREF(flags);
        self->flags = flags;
    }
    PyBuffer_Release(&frequencies);
    PyBuffer_Release(&sizes);
    PyBuffer_Release(&offsets);
    PyBuffer_Release(&escaped);
    PyBuffer_Release(&unrest);
    PyBuffer_Release(&rows);
    return (PyObject *)self;
}

static void tables_free(PyObject *object)
{
    TablesObject *self = (TablesObject *)object;
    free_tables(&self->tables);
    Py_XDECREF(self->flags);
    Py_TYPE(object)->tp_free(object);
}

/* Copy row numbers of any native integer type, those of their bits that are in the mask; false if one is not below
`count`. */
static bool copy_rows(uint16_t *keys, const Py_buffer *rows, size_t size, uint64_t mask, uint32_t count, bool *known)
{
    bool outside = false;
    const char *from = rows->buf;
    *known = false;
#define COPY(POSITIVE, MAX)                                                                                            \
    *known = rows->itemsize == sizeof(POSITIVE);                                                                       \
    if (*known) {                                                                                                      \
        const uint64_t largest = MAX; /* of the type; what is negative is above it */                                  \
        POSITIVE most = 0;                                                                                             \
        for (size_t i = 0; i < size; i++) {                                                                            \
            POSITIVE row;                                                                                              \
            memcpy(&row, from + i * sizeof row, sizeof row);                                                           \
            row = (POSITIVE)(row & mask);                                                                              \
            most = row > most ? row : most;                                                                            \
            keys[i] = (uint16_t)row;                                                                                   \
        }                                                                                                              \
        outside = most >= count || most > largest;                                                                     \
    }                                                                                                                  \
    break
    switch (rows->format && rows->format[0] && !rows->format[1] ? rows->format[0] : 'B') {
    case 'b':
        COPY(unsigned char, SCHAR_MAX);
    case 'B':
        COPY(unsigned char, UCHAR_MAX);
    case 'h':
        COPY(unsigned short, SHRT_MAX);
    case 'H':
        COPY(unsigned short, USHRT_MAX);
    case 'i':
        COPY(unsigned int, INT_MAX);
    case 'I':
        COPY(unsigned int, UINT_MAX);
    case 'l':
        COPY(unsigned long, LONG_MAX);
    case 'L':
        COPY(unsigned long, ULONG_MAX);
    case 'q':
        COPY(unsigned long long, LLONG_MAX);
    case 'Q':
        COPY(unsigned long long, ULLONG_MAX);
    }
#undef COPY
    return !outside;
}

/* A portion of one stream: what a call brings, and what became of it. */
typedef struct {
    CoderObject *coder;
    Tables *tables;
    Py_buffer rows, symbols;
    size_t size;
    unsigned long long mask; /* bits of the rows that count */
    enum { DONE, NO_ROOM, NO_ROW, NO_INTEGERS, NOT_CODED } found;
    Status status;
} Portion;

/* Get a portion's arrays; false with an exception set, and nothing held, if there is something wrong with them. */
static bool take_portion(Portion *p, PyObject *coder, PyObject *tables, PyObject *rows, PyObject *symbols)
{
    p->coder = (CoderObject *)coder;
    p->tables = &((TablesObject *)tables)->tables;
    if (PyObject_GetBuffer(rows, &p->rows, PyBUF_ND | PyBUF_FORMAT))
        return false;
    if (PyObject_GetBuffer(symbols, &p->symbols, p->coder->coder.writing ? PyBUF_SIMPLE : PyBUF_WRITABLE)) {
        PyBuffer_Release(&p->rows);
        return false;
    }
    p->size = p->rows.itemsize ? (size_t)p->rows.len / (size_t)p->rows.itemsize : 0;
    if (p->size > MAX_SYMBOLS || (size_t)p->symbols.len != p->size * sizeof(int32_t) ||
        (uintptr_t)p->symbols.buf % sizeof(int32_t))
        refuse("more symbols than a portion has, or not as many as rows");
    else if (p->coder->busy)
        PyErr_SetString(PyExc_RuntimeError, "a coder serves one call at a time");
    else {
        p->coder->busy = true;
        return true;
    }
    PyBuffer_Release(&p->symbols);
    PyBuffer_Release(&p->rows);
    return false;
}

static void run(Portion *p)
{
    bool known = false;
    uint16_t *keys = malloc((p->size + 1) * sizeof *keys);
    if (!keys)
        p->found = NO_ROOM;
    else if (!copy_rows(keys, &p->rows, p->size, p->mask, p->tables->count, &known))
        p->found = NO_ROW;
    else if (!known)
        p->found = NO_INTEGERS;
    else {
        p->status = code_portion(&p->coder->coder, p->tables, keys, p->size, p->symbols.buf);
        p->found = p->status == FINE ? DONE : NOT_CODED;
    }
    free(keys);
}

static void release_portion(Portion *p)
{
    p->coder->busy = false;
    PyBuffer_Release(&p->symbols);
    PyBuffer_Release(&p->rows);
}

/* False with an exception set if it was not coded. */
static bool was_coded(const Portion *p)
{
    switch (p->found) {
    case DONE:
        return true;
    case NO_ROW:
        PyErr_SetString(PyExc_IndexError, "a row that does not exist");
        return false;
    case NO_INTEGERS:
        PyErr_SetString(PyExc_TypeError, "rows must be native integers");
        return false;
    case NOT_CODED:
        if (p->status != NO_MEMORY)
            return refuse(p->status == DAMAGED ? "the coded symbols are damaged"
                                               : "a symbol outside a row that has no escape");
        break;
    case NO_ROOM:
        break;
    }
    PyErr_NoMemory();
    return false;
}

/* code(tables, rows, symbols, mask): see _range.pyi. */
static PyObject *coder_code(PyObject *object, PyObject *args)
{
    PyObject *tables, *rows, *symbols;
    Portion p = {.mask = ULLONG_MAX};
    if (!PyArg_ParseTuple(args, "O!OO|K", &TablesType, &tables, &rows, &symbols, &p.mask) ||
        !take_portion(&p, object, tables, rows, symbols))
        return NULL;
    if (p.size < SHARED_FROM) {
        run(&p);
    } else {
        Py_BEGIN_ALLOW_THREADS
        run(&p);
        Py_END_ALLOW_THREADS
    }
    release_portion(&p);
    return was_coded(&p) ? Py_NewRef(Py_None) : NULL;
}

static void run_portion(void *portions, int64_t number)
{
    run((Portion *)portions + number);
}

/* decode_together(tables, [(decoder, rows, symbols)], threads, mask): see _range.pyi. */
static PyObject *decode_together(PyObject *module, PyObject *args)
{
    PyObject *tables, *list;
    unsigned long long mask;
    int threads;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!iK", &TablesType, &tables, &PyList_Type, &list, &threads, &mask))
        return NULL;
    const Py_ssize_t count = PyList_GET_SIZE(list);
    Portion *portions = PyMem_Calloc((size_t)count + 1, sizeof *portions);
    if (!portions)
        return PyErr_NoMemory();
    Py_ssize_t taken = 0;
    bool fine = true;
    for (; fine && taken < count; taken += fine) {
        PyObject *coder, *rows, *symbols;
        portions[taken].mask = mask;
        fine = PyArg_ParseTuple(PyList_GET_ITEM(list, taken), "O!OO", &DecoderType, &coder, &rows, &symbols) &&
               take_portion(&portions[taken], coder, tables, rows, symbols);
    }
    if (fine) {
        Py_BEGIN_ALLOW_THREADS
        share_each(run_portion, portions, count, threads);
        Py_END_ALLOW_THREADS
    }
    for (Py_ssize_t i = 0; i < taken; i++)
        release_portion(&portions[i]);
    for (Py_ssize_t i = 0; fine && i < count; i++)
        fine = was_coded(&portions[i]);
    PyMem_Free(portions);
    return fine ? Py_NewRef(Py_None) : NULL;
}

static void coder_free(PyObject *object)
{
    free(((CoderObject *)object)->coder.words);
    Py_TYPE(object)->tp_free(object);
}

static PyObject *decoder_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    Py_buffer data;
    (void)named;
    if (!PyArg_ParseTuple(args, "y*", &data))
        return NULL;
    size_t bytes = (size_t)data.len, words = bytes / 4 + (bytes % 4 > 0);
    const unsigned char *from = data.buf;
    CoderObject *self = (CoderObject *)type->tp_alloc(type, 0);
    Coder *c = self ? &self->coder : NULL;
    if (c && !(c->words = calloc(words + 3, sizeof *c->words))) {
        PyErr_NoMemory();
        Py_DECREF(self);
        self = NULL;
    } else if (c) {
        for (size_t i = 0; i < bytes / 4; i++, from += 4)
            c->words[i] = (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
        for (size_t i = 0; i < bytes % 4; i++)
            c->words[words - 1] |= (uint32_t)from[i] << (24 - 8 * i);
        c->room = words;
        c->range = UINT64_MAX;
        c->low = (uint64_t)c->words[0] << 32 | c->words[1];
        c->at = words < 2 ? words : 2;
    }
    PyBuffer_Release(&data);
    return (PyObject *)self;
}

static PyObject *encoder_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    (void)named;
    if (!PyArg_ParseTuple(args, ""))
        return NULL;
    CoderObject *self = (CoderObject *)type->tp_alloc(type, 0);
    if (self) {
        self->coder.writing = true;
        self->coder.range = UINT64_MAX;
    }
    return (PyObject *)self;
}

/* finish(): the stream so far; the coder stays as it is. */
static PyObject *encoder_finish(PyObject *object, PyObject *none)
{
    CoderObject *self = (CoderObject *)object;
    const Coder *c = &self->coder;
    (void)none;
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "a coder serves one call at a time");
        return NULL;
    }
    if (c->at > (size_t)PY_SSIZE_T_MAX / 4 - 2)
        return PyErr_NoMemory();
    size_t size = 4 * c->at + 8;
    unsigned char *bytes = PyMem_Malloc(size);
    if (!bytes)
        return PyErr_NoMemory();
    /* The number with the most zero bytes at its end that lies inside the interval. If that reaches so far beyond 2^64
       that any eight bytes would do behind a carry, they are zeros. */
    uint64_t ending = 0;
    bool carry = c->low > UINT64_MAX - (LEAST_RANGE - 1);
    for (int zeros = 64; zeros >= 0 && !carry && c->low; zeros -= 8) {
        uint64_t below = zeros == 64 ? UINT64_MAX : ((uint64_t)1 << zeros) - 1;
        ending = (c->low + below) & ~below;
        if (ending >= c->low && ending - c->low < c->range)
            break;
    }
    for (size_t i = c->at; i-- > 0;) {
        uint32_t word = c->words[i] + carry;
        carry = carry && !word;
        for (size_t k = 0; k < 4; k++)
            bytes[4 * i + k] = (unsigned char)(word >> (24 - 8 * k));
    }
    for (size_t k = 0; k < 8; k++)
        bytes[size - 8 + k] = (unsigned char)(ending >> (56 - 8 * k));
    while (size && !bytes[size - 1])
        size--;
    PyObject *result = PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)size);
    PyMem_Free(bytes);
    return result;
}

static PyMethodDef decoder_methods[] = {{"decode", coder_code, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

static PyMethodDef encoder_methods[] = {
    {"push", coder_code, METH_VARARGS, NULL},
    {"finish", encoder_finish, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject TablesType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "layercast.entropy._range.Tables",
    .tp_basicsize = sizeof(TablesObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = tables_new,
    .tp_dealloc = tables_free,
};

static PyTypeObject DecoderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "layercast.entropy._range.Decoder",
    .tp_basicsize = sizeof(CoderObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = decoder_new,
    .tp_dealloc = coder_free,
    .tp_methods = decoder_methods,
};

static PyTypeObject EncoderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "layercast.entropy._range.Encoder",
    .tp_basicsize = sizeof(CoderObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = encoder_new,
    .tp_dealloc = coder_free,
    .tp_methods = encoder_methods,
};

static PyMethodDef methods[] = {{"decode_together", decode_together, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "layercast.entropy._range",
    .m_doc = "The entropy coder, compiled; layercast.entropy chooses it where it was built.",
    .m_size = -1,
    .m_methods = methods,
};

/* What the bitstream fixes, for the test that compares it with the Python side. */
static const struct {
    const char *name;
    long value;
} constants[] = {
    {"MAX_SYMBOLS", (long)MAX_SYMBOLS},
    {"RUN_FROM", RUN_FROM},
    {"AS_GIVEN_BELOW", AS_GIVEN_BELOW},
    {"NARROW", NARROW},
    {"MAX_BUNDLED", MAX_BUNDLED},
    {"PACK_LIMIT", PACK_LIMIT},
    {"PACK_FROM", PACK_FROM},
    {"PACK_LEAST", PACK_LEAST},
    {"PACK_SHARE", PACK_SHARE},
    {"UNREST_LIMIT", UNREST_LIMIT},
    {"BLOCK", BLOCK},
    {"WORTH_FROM", WORTH_FROM},
    {"SAMPLED", SAMPLED},
    {"WORTH_SHARE", WORTH_SHARE},
};

PyMODINIT_FUNC PyInit__range(void)
{
    PyObject *made = find_pool() ? PyModule_Create(&module) : NULL;
    PyTypeObject *types[] = {&TablesType, &DecoderType, &EncoderType};
    const char *names[] = {"Tables", "Decoder", "Encoder"};
    for (size_t i = 0; made && i < 3; i++) {
        if (PyType_Ready(types[i]) == 0) {
            Py_INCREF(types[i]);
            if (PyModule_AddObject(made, names[i], (PyObject *)types[i]) == 0)
                continue;
            Py_DECREF(types[i]);
        }
        Py_CLEAR(made);
    }
    for (size_t i = 0; made && i < sizeof constants / sizeof *constants; i++)
        if (PyModule_AddIntConstant(made, constants[i].name, constants[i].value))
            Py_CLEAR(made);
    return made;
}
