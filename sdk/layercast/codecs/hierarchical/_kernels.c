/* The array work of a walk, one pass each; `kernels.py` says what each function does and has the same in NumPy.
 *
 * Arrays come as buffers, flat and contiguous, and are checked for size; every index read from one is checked before
 * it is used, so that no input reads or writes outside them. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../native/pool.h"

/* Compiled twice, and chosen when the module is loaded: vectors of AVX2 are twice as long, and SSE2, which every x86-64
has, knows no largest of two unsigned numbers. 0.7 of the time of `contexts`; the other loops gain nothing. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define EACH_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define EACH_PROCESSOR
#endif

#define KEYS 2048
#define MIRROR 1024
#define LOGITS 256
#define ZERO 128
#define SKIP 255
#define ROUNDER 12582912.0f /* 1.5 * 2**23 */
#define MAX_STEPS 9
#define MAX_BITS (1 << 20) /* of an entry in a ranking: sums over all symbols times the classes stay below 2**63 */

static int fits(const Py_buffer *b, Py_ssize_t items, size_t size, const char *name)
{
    if (b->len == items * (Py_ssize_t)size)
        return 1;
    PyErr_Format(PyExc_ValueError, "%s has %zd bytes, expected %zd items of %zu", name, b->len, items, size);
    return 0;
}

/* Whether every position is inside an array; asked before a loop over them, which then need not look. */
EACH_PROCESSOR static int within(const int32_t *at, Py_ssize_t n, Py_ssize_t size)
{
    uint32_t last = 0;
    for (Py_ssize_t i = 0; i < n; i++)
        last = last < (uint32_t)at[i] ? (uint32_t)at[i] : last;
    return !n || (Py_ssize_t)last < size;
}

/* Whether every key is below KEYS. */
EACH_PROCESSOR static int are_keys(const int16_t *keys, Py_ssize_t n)
{
    uint16_t last = 0;
    for (Py_ssize_t i = 0; i < n; i++)
        last = last < (uint16_t)keys[i] ? (uint16_t)keys[i] : last;
    return last < KEYS;
}

/* The key of two logits is the sum of what each contributes: a table of the centre's, and behind it the tilt's. */
static inline int16_t key_of(const int16_t *table, uint8_t centre, uint8_t tilt)
{
    return (int16_t)(table[centre] + table[LOGITS + tilt]);
}

/* Whether every sum is below KEYS. */
static int is_key_table(const int16_t *table)
{
    int16_t most[2] = {0, 0};
    for (int i = 0; i < 2 * LOGITS; i++) {
        if (table[i] < 0)
            return 0;
        most[i / LOGITS] = most[i / LOGITS] < table[i] ? table[i] : most[i / LOGITS];
    }
    return most[0] + most[1] < KEYS;
}

EACH_PROCESSOR static int are_trits(const int32_t *symbols, Py_ssize_t n)
{
    uint32_t last = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        const uint32_t from_0 = (uint32_t)symbols[i] + 1;
        last = last < from_0 ? from_0 : last;
    }
    return last <= 2;
}

/* x, or -x where the key says so. */
static inline int mirrored(int x, int16_t key)
{
    const int flag = -(key >= MIRROR);
    return (x ^ flag) - flag;
}

#define RUN 16 /* symbols that are looked at together; half of such runs are all alike in a smooth picture */
#define CHUNK 32768 /* symbols that a thread takes at a time: less is done before another has woken */

/* A loop over symbols or positions, which threads share. */
typedef struct Loop {
    int (*some)(const struct Loop *, Py_ssize_t begin, Py_ssize_t end); /* returns 0 where an index is outside */
    Py_ssize_t n, chunk;
    const Py_buffer *b;
    int channels[3], number, every;
    double *sums;
    atomic_int outside;
} Loop;

static void do_chunk(void *context, int64_t number)
{
    Loop *loop = context;
    const Py_ssize_t begin = number * loop->chunk;
    const Py_ssize_t end = loop->n - begin < loop->chunk ? loop->n : begin + loop->chunk;
    if (!loop->some(loop, begin, end))
        atomic_store(&loop->outside, 1);
}

/* Returns 0 if any part of the loop did. */
static int in_chunks(Loop *loop, int threads)
{
    share_each(do_chunk, loop, (loop->n + loop->chunk - 1) / loop->chunk, threads);
    return !atomic_load(&loop->outside);
}

/* A loop whose chunks have sums of their own, some by channel each, which are added in the same order by any threads; to
as many buffers. Returns 0 with an exception set where there is no memory. */
static int sum_chunks(Loop *loop, int some, const Py_buffer *to, int threads)
{
    const Py_ssize_t channels = loop->channels[0], chunks = (loop->n + loop->chunk - 1) / loop->chunk;
    loop->sums = calloc((size_t)(chunks * some * channels) + 1, sizeof *loop->sums);
    if (!loop->sums) {
        PyErr_NoMemory();
        return 0;
    }
    Py_BEGIN_ALLOW_THREADS
    in_chunks(loop, threads);
    Py_END_ALLOW_THREADS
    const double *from = loop->sums;
    for (Py_ssize_t chunk = 0; chunk < chunks; chunk++)
        for (int k = 0; k < some; k++, from += channels) {
            double *sums = to[k].buf;
            for (Py_ssize_t c = 0; c < channels; c++)
                sums[c] += from[c];
        }
    free(loop->sums);
    return 1;
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

static int some_row_keys(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const uint8_t *centre = loop->b[0].buf, *tilt = loop->b[1].buf;
    const int16_t *table = loop->b[2].buf;
    int16_t *out = loop->b[3].buf;
    for (Py_ssize_t i = begin; i < end; i++)
        out[i] = key_of(table, centre[i], tilt[i]);
    return 1;
}

static PyObject *row_keys(PyObject *self, PyObject *args)
{
    Py_buffer b[4];
    int inside = 1, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*w*i", &b[0], &b[1], &b[2], &b[3], &threads))
        return NULL;
    const Py_ssize_t n = b[0].len;
    const int checked = fits(&b[1], n, 1, "tilt") && fits(&b[2], 2 * LOGITS, 2, "table") && fits(&b[3], n, 2, "out");
    if (checked && (inside = is_key_table(b[2].buf))) {
        Loop loop = {.some = some_row_keys, .n = n, .chunk = CHUNK / 4, .b = b};
        Py_BEGIN_ALLOW_THREADS
        in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 4, checked, inside);
}

static int some_row_keys_at(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const Py_buffer *b = loop->b;
    const int32_t *at = b[0].buf;
    const uint8_t *centre = b[1].buf, *tilt = b[2].buf;
    const int16_t *table = b[3].buf;
    int16_t *out = b[4].buf;
    if (!within(at + begin, end - begin, b[1].len))
        return 0;
    for (Py_ssize_t i = begin; i < end; i++)
        out[i] = key_of(table, centre[at[i]], tilt[at[i]]);
    return 1;
}

static PyObject *row_keys_at(PyObject *self, PyObject *args)
{
    Py_buffer b[5];
    int inside = 1, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*w*i", &b[0], &b[1], &b[2], &b[3], &b[4], &threads))
        return NULL;
    Py_ssize_t n = b[0].len / 4, size = b[1].len;
    int checked = fits(&b[0], n, 4, "at") && fits(&b[2], size, 1, "tilt") && fits(&b[3], 2 * LOGITS, 2, "table") &&
                  fits(&b[4], n, 2, "out");
    if (checked && (inside = is_key_table(b[3].buf))) {
        Loop loop = {.some = some_row_keys_at, .n = n, .chunk = CHUNK, .b = b};
        Py_BEGIN_ALLOW_THREADS
        inside = in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 5, checked, inside);
}

/* Some channels of all: which ones lie inside a position, and n symbols fill whole positions. */
static int is_part(int begin, int width, int channels, Py_ssize_t n)
{
    return begin >= 0 && width > 0 && width <= channels - begin && n % width == 0;
}

EACH_PROCESSOR static int some_shifted(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const Py_ssize_t channels = loop->channels[0];
    const uint8_t *restrict centre = (const uint8_t *)loop->b[0].buf + begin * channels;
    const int16_t *restrict shifts = loop->b[1].buf, most = (int16_t)loop->number;
    uint8_t *restrict out = (uint8_t *)loop->b[2].buf + begin * channels;
    for (Py_ssize_t p = begin; p < end; p++, centre += channels, out += channels)
        for (Py_ssize_t c = 0; c < channels; c++) {
            const int16_t x = (int16_t)(centre[c] + shifts[c]);
            out[c] = (uint8_t)(x < 0 ? 0 : x > most ? most : x);
        }
    return 1;
}

static PyObject *shifted(PyObject *self, PyObject *args)
{
    Py_buffer b[3];
    int most, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*w*ii", &b[0], &b[1], &b[2], &most, &threads))
        return NULL;
    const Py_ssize_t n = b[0].len, channels = b[1].len / 2;
    const int inside = channels > 0 && channels <= CHUNK && n % channels == 0 && most >= 0 && most < 256;
    const int checked = fits(&b[1], channels, 2, "shifts") && fits(&b[2], n, 1, "out");
    if (checked && inside) {
        Loop loop = {.some = some_shifted, .n = n / channels, .chunk = CHUNK / channels, .b = b, .number = most};
        loop.channels[0] = (int)channels;
        Py_BEGIN_ALLOW_THREADS
        in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 3, checked, inside);
}

/* Positions of which every second one's numbers fit 24 bits when they are added, each up to 2**16. */
#define DEVIATING 510

/* Sums of a chunk of positions to a place of its own: a trit's three numbers are parts of one, which is added at once. */
static int some_deviations(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const Py_buffer *b = loop->b;
    const int channels = loop->channels[0];
    const uint8_t *centre = b[0].buf, *tilt = b[1].buf;
    const int16_t *table = b[2].buf;
    const uint64_t *chances = b[3].buf;
    const int8_t *trits = b[4].buf;
    double *nonzero = loop->sums + begin / loop->chunk * 3 * channels;
    double *expected = nonzero + channels, *variance = expected + channels;
    for (int from = 0; from < channels; from += RUN) {
        const int some = channels - from < RUN ? channels - from : RUN;
        uint64_t sums[RUN] = {0};
        for (Py_ssize_t p = begin + begin % 2; p < end; p += 2)
            for (Py_ssize_t c = 0, i = p * channels + from; c < some; c++, i++)
                sums[c] += chances[key_of(table, centre[i], tilt[i])] + ((uint64_t)(trits[i] != 0) << 48);
        for (int c = 0; c < some; c++) {
            nonzero[from + c] = (double)(sums[c] >> 48);
            variance[from + c] = (double)(sums[c] >> 24 & 0xffffff);
            expected[from + c] = (double)(sums[c] & 0xffffff);
        }
    }
    return 1;
}

static PyObject *deviations(PyObject *self, PyObject *args)
{
    Py_buffer b[8];
    int threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*w*w*w*i", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &b[6], &b[7], &threads))
        return NULL;
    const Py_ssize_t n = b[0].len, channels = b[5].len / 8;
    int checked = fits(&b[1], n, 1, "tilt") && fits(&b[2], 2 * LOGITS, 2, "table") &&
                  fits(&b[3], KEYS, 8, "chances") && fits(&b[4], n, 1, "trits") &&
                  fits(&b[5], channels, 8, "nonzero") && fits(&b[6], channels, 8, "expected") &&
                  fits(&b[7], channels, 8, "variance");
    const int inside = checked && channels > 0 && channels <= CHUNK && n % channels == 0 && is_key_table(b[2].buf);
    if (inside) {
        const Py_ssize_t chunk = CHUNK / channels;
        Loop loop = {.some = some_deviations,
                     .n = n / channels,
                     .chunk = chunk < DEVIATING ? chunk : DEVIATING,
                     .b = b};
        loop.channels[0] = (int)channels;
        checked = sum_chunks(&loop, 3, b + 5, threads);
    }
    return finish(b, 8, checked, inside);
}

#define FARTHEST 4 /* shifts of a scale index that are weighed, up and down */
#define SHIFTS (2 * FARTHEST + 1)
#define SCALES 64
#define SILENT 2 /* scale indices below this, however shifted, expect so little that zeros are free: most symbols */

/* What plane 0's symbols cost under shifted scales, by channel: SHIFTS sums, and how often each scale index stands where
nothing is coded and nothing expected, which is nearly everywhere and counted only. */
static int some_shift_costs(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const Py_buffer *b = loop->b;
    const Py_ssize_t from = loop->channels[1], width = loop->channels[2], channels = loop->number;
    const Py_ssize_t some = loop->n ? b[2].len / loop->n : 0;
    const int16_t *values = b[0].buf;
    const uint8_t *scale = b[1].buf, *offset = b[2].buf;
    const int32_t *bits = b[3].buf, *starts = b[4].buf, *first = b[5].buf;
    const int offsets = (int)(b[5].len / 4 / SCALES);
    double *costs = loop->sums + begin / loop->chunk * loop->channels[0], *quiet = costs + width * SHIFTS;
    for (Py_ssize_t p = begin; p < end; p++) {
        if (p % loop->every)
            continue;
        for (Py_ssize_t c = 0; c < width; c++) {
            int value = values[p * channels + from + c], off = c < some ? offset[p * some + c] - ZERO : 0;
            const int at = scale[p * width + c];
            if (at >= SCALES)
                return 0;
            if (!value && !off) {
                if (at >= SILENT)
                    quiet[c * SCALES + at]++;
                continue;
            }
            if (off < 0)
                off = -off, value = -value;
            if (off >= offsets)
                return 0;
            for (int k = 0; k < SHIFTS; k++) {
                const int moved = at + k - FARTHEST, scaled = moved < 0 ? 0 : moved < SCALES ? moved : SCALES - 1;
                const int row = scaled * offsets + off, entry = value - first[row];
                const int32_t size = starts[row + 1] - starts[row]; /* its escape is the last one */
                costs[c * SHIFTS + k] += bits[starts[row] + (entry < 0 || entry >= size ? size - 1 : entry)];
            }
        }
    }
    return 1;
}

/* Whether rows of at least one entry each begin there, one behind the other. */
static int are_starts(const int32_t *starts, Py_ssize_t rows, Py_ssize_t entries)
{
    for (Py_ssize_t row = 0; row < rows; row++)
        if (starts[row] < 0 || starts[row] >= starts[row + 1])
            return 0;
    return rows > 0 && starts[rows] <= entries;
}

static PyObject *shift_costs(PyObject *self, PyObject *args)
{
    Py_buffer b[7];
    int begin, width, channels, every, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*w*iiiii", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &b[6], &begin, &width,
                          &channels, &every, &threads))
        return NULL;
    const Py_ssize_t n = b[1].len, rows = b[5].len / 4, entries = b[3].len / 4;
    int inside = is_part(begin, width, channels, n) && width <= CHUNK && every > 0 && rows % SCALES == 0;
    const Py_ssize_t positions = inside ? n / width : 0, some = positions ? b[2].len / positions : 0;
    inside = inside && some <= width;
    int checked = fits(&b[2], positions * some, 1, "offset") && fits(&b[4], rows + 1, 4, "starts");
    if (inside)
        checked = checked && fits(&b[0], positions * channels, 2, "values") &&
                  fits(&b[6], width * (SHIFTS + SCALES), 8, "sums");
    if (checked && inside && (inside = are_starts(b[4].buf, rows, entries))) {
        Loop loop = {.some = some_shift_costs, .n = positions, .chunk = CHUNK / width, .b = b, .number = channels};
        loop.channels[0] = width * (SHIFTS + SCALES), loop.channels[1] = begin, loop.channels[2] = width;
        loop.every = every;
        checked = sum_chunks(&loop, 1, b + 6, threads);
        inside = !atomic_load(&loop.outside);
    }
    return finish(b, 7, checked, inside);
}

static PyObject *coded_symbols(PyObject *self, PyObject *args)
{
    Py_buffer b[4];
    Py_ssize_t found = 0;
    int inside = 1;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*w*w*", &b[0], &b[1], &b[2], &b[3]))
        return NULL;
    const Py_ssize_t n = b[0].len / 2;
    /* What is not coded is written as well, and then over. */
    const int checked = fits(&b[1], KEYS, 1, "coded") && fits(&b[2], n + 1, 4, "at") && fits(&b[3], n + 1, 2, "chosen");
    if (checked) {
        const int16_t *keys = b[0].buf;
        const uint8_t *coded = b[1].buf;
        int32_t *at = b[2].buf;
        int16_t *chosen = b[3].buf;
        inside = n <= INT32_MAX && are_keys(keys, n);
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; inside && i < n; i++) {
            at[found] = (int32_t)i;
            chosen[found] = keys[i];
            found += coded[keys[i]] != 0;
        }
        Py_END_ALLOW_THREADS
    }
    PyObject *done = finish(b, 4, checked, inside);
    Py_XDECREF(done);
    return done ? PyLong_FromSsize_t(found) : NULL;
}

/* Class of worth of every key, SKIP where it is in none, from how often each occurs; the symbols of each class to `sizes`,
 * the sum of their `values` to `sums`. Returns 0 if something in `order` is no key or comes twice, or `bits` are out of
 * range. */
static int classify(const Py_buffer *order, const int64_t *bits, const float *values, const uint32_t found[KEYS],
                    int count, uint8_t table[KEYS], int64_t *sizes, double *sums)
{
    const int64_t *entry = order->buf;
    Py_ssize_t entries = order->len / 8;
    int64_t all = 0, so_far = 0;
    for (Py_ssize_t e = 0; e < entries; e++) {
        if (entry[e] < 0 || entry[e] >= KEYS || bits[e] < 0 || bits[e] > MAX_BITS)
            return 0;
        all += found[entry[e]] * bits[e];
    }
    memset(table, SKIP, KEYS);
    for (Py_ssize_t e = 0; e < entries && all; e++) {
        if (table[entry[e]] != SKIP)
            return 0;
        so_far += found[entry[e]] * bits[e];
        int64_t number = so_far ? (so_far * count - 1) / all : 0;
        table[entry[e]] = (uint8_t)number;
        sizes[number] += found[entry[e]];
        sums[number] += (double)found[entry[e]] * values[entry[e]];
    }
    return 1;
}

#define MAX_PARTS 16

/* One ranking; its symbols are cut into parts that threads take. */
typedef struct {
    const uint8_t *centre, *tilt;
    const int16_t *table;
    uint8_t classes[KEYS];
    int16_t *keys, *by_class;               /* as the symbols lie, and class by class */
    int32_t *at;                            /* positions, class by class */
    int64_t sizes[MAX_PARTS][SKIP + 1];     /* symbols of each class in each part */
    Py_ssize_t next[MAX_PARTS][SKIP];       /* where each part's next symbol of each class goes */
    uint32_t (*found)[2][KEYS];             /* how often each key occurs, by part, twice: see `count_part` */
    Py_ssize_t size;
    int parts, count;
} Ranking;

static Py_ssize_t part_begin(const Ranking *r, int64_t part)
{
    return r->size * part / r->parts;
}

#define COUNTED 1024 /* keys that are counted together */

static inline int alike(const void *from, int words, uint64_t all)
{
    uint64_t differ = 0, word;
    for (int i = 0; i < words; i++) {
        memcpy(&word, (const char *)from + 8 * i, 8);
        differ |= word ^ all;
    }
    return !differ;
}

static inline int keys_are_alike(const int16_t *x)
{
    return alike(x, RUN / 4, (uint16_t)*x * UINT64_C(0x0001000100010001));
}

/* Keys of a part's symbols, and how often each occurs among them: some keys first and then their counts, which takes
two thirds of the time of one loop for both. */
static void count_part(void *context, int64_t part)
{
    Ranking *r = context;
    const Py_ssize_t end = part_begin(r, part + 1);
    const int16_t *table = r->table;
    for (Py_ssize_t begin = part_begin(r, part), next; begin < end; begin = next) {
        next = end - begin < COUNTED ? end : begin + COUNTED;
        for (Py_ssize_t i = begin; i < next; i++)
            r->keys[i] = key_of(table, r->centre[i], r->tilt[i]);
        for (Py_ssize_t i = begin; i < next; i += RUN) {
            const Py_ssize_t run = next - i < RUN ? next - i : RUN;
            if (run == RUN && keys_are_alike(r->keys + i)) {
                r->found[part][0][r->keys[i]] += RUN;
                continue;
            }
            for (Py_ssize_t k = i; k < i + run; k++)
                /* Two counts: an increment would wait for the one before it, which is often of the same key. */
                r->found[part][k & 1][r->keys[k]]++;
        }
    }
}

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>

/* Of 8 lanes, by which of them are wanted: those first, as indices of int32 and as bytes of int16. */
static uint8_t FIRST_LANES[256][8], FIRST_SHORTS[256][16];

static void make_lanes(void)
{
    for (int wanted = 0; wanted < 256; wanted++)
        for (int lane = 0, to = 0; lane < 8; lane++)
            if (wanted >> lane & 1) {
                FIRST_LANES[wanted][to] = (uint8_t)lane;
                FIRST_SHORTS[wanted][2 * to] = (uint8_t)(2 * lane);
                FIRST_SHORTS[wanted][2 * to++ + 1] = (uint8_t)(2 * lane + 1);
            }
}

/* `place_part`, eight symbols at a time, for as many classes as have registers: one by one, each waits for its class's
next place, which is known when the last one has been put. A third of the time. */
#define FEW 4
#define EIGHT 8

__attribute__((target("avx2,popcnt"))) static void place_by_eight(Ranking *r, int64_t part)
{
    Py_ssize_t next[FEW], most[FEW]; /* from where eight at a time would reach into what is others' */
    for (int g = 0; g < r->count; g++) {
        next[g] = r->next[part][g];
        most[g] = next[g] + r->sizes[part][g] - EIGHT;
    }
    const Py_ssize_t end = part_begin(r, part + 1);
    Py_ssize_t i = part_begin(r, part);
    for (; end - i >= EIGHT; i += EIGHT) {
        const int16_t *keys = r->keys + i;
        uint64_t classes = 0;
#pragma GCC unroll 8
        for (int k = 0; k < EIGHT; k++)
            classes |= (uint64_t)r->classes[keys[k]] << 8 * k;
        if (classes == UINT64_MAX) /* none in any */
            continue;
        const __m128i these = _mm_loadu_si128((const __m128i *)keys), of = _mm_cvtsi64_si128((long long)classes);
        const __m256i places = _mm256_add_epi32(_mm256_set1_epi32((int)i), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        for (int g = 0; g < r->count; g++) {
            const unsigned wanted =
                (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(of, _mm_set1_epi8((char)g))) & 0xff;
            if (next[g] > most[g]) {
                for (unsigned left = wanted; left; left &= left - 1, next[g]++) {
                    const int k = __builtin_ctz(left);
                    r->at[next[g]] = (int32_t)(i + k);
                    r->by_class[next[g]] = keys[k];
                }
                continue;
            }
            const __m256i lanes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)FIRST_LANES[wanted]));
            const __m128i bytes = _mm_loadu_si128((const __m128i *)FIRST_SHORTS[wanted]);
            _mm256_storeu_si256((__m256i *)(r->at + next[g]), _mm256_permutevar8x32_epi32(places, lanes));
            _mm_storeu_si128((__m128i *)(r->by_class + next[g]), _mm_shuffle_epi8(these, bytes));
            next[g] += __builtin_popcount(wanted);
        }
    }
    for (; i < end; i++) {
        const uint8_t g = r->classes[r->keys[i]];
        if (g < r->count) {
            r->at[next[g]] = (int32_t)i;
            r->by_class[next[g]++] = r->keys[i];
        }
    }
}

static int places_by_eight(const Ranking *r)
{
    return r->count <= FEW && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
}
#else
static void make_lanes(void)
{
}

static void place_by_eight(Ranking *r, int64_t part)
{
    (void)r, (void)part;
}

static int places_by_eight(const Ranking *r)
{
    (void)r;
    return 0;
}
#endif

/* A part's symbols to their classes. */
static void place_part(void *context, int64_t part)
{
    Ranking *r = context;
    if (places_by_eight(r)) {
        place_by_eight(r, part);
        return;
    }
    /* What is in no class is written as well, to one place that stays, behind everything. */
    Py_ssize_t to_next[256], step[256];
    for (int g = 0; g < 256; g++) {
        to_next[g] = g < r->count ? r->next[part][g] : r->size + part;
        step[g] = g < r->count;
    }
    const Py_ssize_t end = part_begin(r, part + 1);
    for (Py_ssize_t i = part_begin(r, part), next; i < end; i = next) {
        next = end - i < RUN ? end : i + RUN;
        if (next - i == RUN && keys_are_alike(r->keys + i)) {
            const int16_t key = r->keys[i];
            const uint8_t g = r->classes[key];
            if (!step[g])
                continue;
            const Py_ssize_t to = to_next[g];
            for (int k = 0; k < RUN; k++) {
                r->at[to + k] = (int32_t)(i + k);
                r->by_class[to + k] = key;
            }
            to_next[g] = to + RUN;
            continue;
        }
        for (Py_ssize_t k = i; k < next; k++) {
            const int16_t key = r->keys[k];
            const uint8_t g = r->classes[key];
            const Py_ssize_t to = to_next[g];
            r->at[to] = (int32_t)k;
            r->by_class[to] = key;
            to_next[g] = to + step[g];
        }
    }
}

/* Where each part puts its symbols: by class, and within a class in the order of the parts. */
static void place_parts(Ranking *r)
{
    Py_ssize_t at = 0;
    for (int part = 0; part < r->parts; part++)
        for (int key = 0; key < KEYS; key++)
            r->sizes[part][r->classes[key]] += r->found[part][0][key] + r->found[part][1][key];
    for (int g = 0; g < r->count; g++)
        for (int part = 0; part < r->parts; at += r->sizes[part++][g])
            r->next[part][g] = at;
}

static PyObject *rank(PyObject *self, PyObject *args)
{
    Py_buffer b[9];
    int inside = 0, count, threads;
    int64_t sizes[SKIP] = {0};
    double sums[SKIP] = {0};
    Ranking *r = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*iw*w*w*i", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &count, &b[6], &b[7],
                          &b[8], &threads))
        return NULL;
    const int parts = threads < 1 ? 1 : threads > MAX_PARTS ? MAX_PARTS : threads;
    Py_ssize_t n = b[0].len, ordered = b[3].len / 8;
    int checked = fits(&b[1], n, 1, "tilt") && fits(&b[2], 2 * LOGITS, 2, "table") && fits(&b[3], ordered, 8, "order") &&
                  fits(&b[4], ordered, 8, "bits") && fits(&b[5], KEYS, 4, "values") && fits(&b[6], n, 2, "keys") &&
                  fits(&b[7], n + MAX_PARTS, 4, "at") && fits(&b[8], n + MAX_PARTS, 2, "by_class");
    if (checked && (inside = count > 0 && count < SKIP && n <= INT32_MAX - MAX_PARTS && is_key_table(b[2].buf))) {
        r = calloc(1, sizeof *r);
        if (!r || !(r->found = calloc((size_t)parts, sizeof *r->found))) {
            PyErr_NoMemory();
            checked = 0;
        }
    }
    if (checked && inside) {
        uint32_t all[KEYS] = {0};
        r->centre = b[0].buf, r->tilt = b[1].buf, r->table = b[2].buf;
        r->keys = b[6].buf, r->at = b[7].buf, r->by_class = b[8].buf;
        r->size = n, r->parts = parts, r->count = count;
        Py_BEGIN_ALLOW_THREADS
        share_each(count_part, r, parts, threads);
        for (int part = 0; part < parts; part++)
            for (int key = 0; key < KEYS; key++)
                all[key] += r->found[part][0][key] + r->found[part][1][key];
        inside = classify(&b[3], b[4].buf, b[5].buf, all, count, r->classes, sizes, sums);
        if (inside) {
            place_parts(r);
            share_each(place_part, r, parts, threads);
        }
        Py_END_ALLOW_THREADS
    }
    if (r)
        free(r->found);
    free(r);
    PyObject *done = finish(b, 9, checked, inside), *list = done ? PyList_New(count) : NULL;
    Py_XDECREF(done);
    for (int g = 0; list && g < count; g++) {
        PyObject *pair = Py_BuildValue("Ld", (long long)sizes[g], sums[g]);
        if (pair)
            PyList_SET_ITEM(list, g, pair);
        else
            Py_CLEAR(list);
    }
    return list;
}

static void count_signs(const int16_t *restrict values, uint8_t *restrict few, uint8_t *restrict sign, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        const int16_t v = values[i], most = v < -2 ? -2 : v > 2 ? 2 : v;
        few[i] = (uint8_t)(most < 0 ? -most : most);
        sign[i] = (uint8_t)(1 + (v > 0) - (v < 0));
    }
}

static void quarter(const int16_t *restrict values, uint8_t *restrict known, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        const int16_t v = values[i], most = v < -32 ? -32 : v > 32 ? 32 : v, quarters = (int16_t)(4 * most);
        known[i] = (uint8_t)(ZERO + (quarters > 127 ? 127 : quarters));
    }
}

static void measure(const int16_t *restrict values, uint8_t *restrict size, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        const int16_t v = values[i], most = v < -15 ? -15 : v > 15 ? 15 : v;
        size[i] = (uint8_t)(ZERO + 8 * (most < 0 ? -most : most));
    }
}

EACH_PROCESSOR static int some_contexts(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const Py_buffer *b = loop->b;
    const Py_ssize_t channels = loop->channels[0], is_signed = loop->channels[1], sized = loop->channels[2];
    const int16_t *values = (const int16_t *)b[0].buf + begin * channels;
    uint8_t *known = (uint8_t *)b[1].buf + begin * is_signed, *size = (uint8_t *)b[2].buf + begin * sized;
    uint8_t *few = (uint8_t *)b[3].buf + begin * channels, *sign = (uint8_t *)b[4].buf + begin * channels;
    if (b[3].len)
        count_signs(values, few, sign, (end - begin) * channels);
    for (Py_ssize_t p = begin; p < end; p++, values += channels, known += is_signed, size += sized) {
        quarter(values, known, is_signed);
        measure(values, size, sized);
    }
    return 1;
}

static PyObject *contexts(PyObject *self, PyObject *args)
{
    Py_buffer b[5];
    Loop loop = {.some = some_contexts, .b = b};
    int *of = loop.channels, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*iiiw*w*w*w*i", &b[0], &of[0], &of[1], &of[2], &b[1], &b[2], &b[3], &b[4], &threads))
        return NULL;
    const Py_ssize_t n = b[0].len / 2, positions = of[0] > 0 ? n / of[0] : 0;
    const int inside = of[0] > 0 && n % of[0] == 0 && of[1] >= 0 && of[1] <= of[0] && of[2] >= 0 && of[2] <= of[0];
    const Py_ssize_t counted = b[3].len ? n : 0; /* where they are wanted */
    int checked = fits(&b[0], n, 2, "values") && fits(&b[3], counted, 1, "few") && fits(&b[4], counted, 1, "sign");
    if (inside)
        checked = checked && fits(&b[1], positions * of[1], 1, "known") && fits(&b[2], positions * of[2], 1, "size");
    if (checked && inside) {
        loop.n = positions, loop.chunk = CHUNK / of[0] + 1;
        Py_BEGIN_ALLOW_THREADS
        in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 5, checked, inside);
}

/* As `quarter`, of values in steps of which `steps` make one of plane 0's, each with a mean in 1/16 of that. */
static PyObject *mean_quarters(PyObject *self, PyObject *args)
{
    Py_buffer b[3];
    int steps;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*iw*", &b[0], &b[1], &steps, &b[2]))
        return NULL;
    const Py_ssize_t n = b[2].len;
    const int inside = steps >= 0 && steps <= MAX_STEPS;
    const int checked = fits(&b[0], n, 2, "values") && fits(&b[1], n, 2, "mean");
    if (checked && inside) {
        const int16_t *restrict values = b[0].buf, *restrict mean = b[1].buf;
        uint8_t *restrict known = b[2].buf;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < n; i++) {
            /* Rounded half up: a number below 0 is shifted as one above it. */
            const int32_t x = mean[i] * steps + values[i] * 16 + 2 + (ZERO << 2), up = x < 0 ? 0 : x >> 2;
            known[i] = (uint8_t)(up > 255 ? 255 : up);
        }
        Py_END_ALLOW_THREADS
    }
    return finish(b, 3, checked, inside);
}

static int some_part_quarters(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const Py_ssize_t from = loop->channels[0], width = loop->channels[1], channels = loop->channels[2];
    const int16_t *values = (const int16_t *)loop->b[0].buf + from;
    uint8_t *out = loop->b[1].buf;
    for (Py_ssize_t p = begin; p < end; p++)
        quarter(values + p * channels, out + p * width, width);
    return 1;
}

static PyObject *part_quarters(PyObject *self, PyObject *args)
{
    Py_buffer b[2];
    int begin, width, channels, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*w*iiii", &b[0], &b[1], &begin, &width, &channels, &threads))
        return NULL;
    const Py_ssize_t n = b[1].len;
    const int inside = is_part(begin, width, channels, n);
    const int checked = !inside || fits(&b[0], n / width * channels, 2, "values");
    if (checked && inside) {
        Loop loop = {.some = some_part_quarters, .n = n / width, .chunk = CHUNK / 4 / width + 1, .b = b};
        loop.channels[0] = begin, loop.channels[1] = width, loop.channels[2] = channels;
        Py_BEGIN_ALLOW_THREADS
        in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 2, checked, inside);
}

static int some_scaled(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const int16_t *restrict values = loop->b[0].buf;
    float *restrict out = loop->b[1].buf;
    const float step = (float)loop->number;
    for (Py_ssize_t i = begin; i < end; i++)
        out[i] = (float)values[i] * step;
    return 1;
}

static PyObject *scaled(PyObject *self, PyObject *args)
{
    Py_buffer b[2];
    int step, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*iw*i", &b[0], &step, &b[1], &threads))
        return NULL;
    const Py_ssize_t n = b[0].len / 2;
    const int checked = fits(&b[0], n, 2, "values") && fits(&b[1], n, 4, "out");
    if (checked) {
        Loop loop = {.some = some_scaled, .n = n, .chunk = CHUNK, .b = b, .number = step};
        Py_BEGIN_ALLOW_THREADS
        in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 2, checked, 1);
}

static int some_finer(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    int16_t *restrict values = loop->b[0].buf;
    const int8_t *restrict trits = loop->b[1].buf;
    for (Py_ssize_t i = begin; i < end; i++)
        values[i] = (int16_t)(3 * values[i] + trits[i]);
    return 1;
}

static PyObject *finer(PyObject *self, PyObject *args)
{
    Py_buffer b[2];
    int threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "w*y*i", &b[0], &b[1], &threads))
        return NULL;
    const Py_ssize_t n = b[1].len;
    const int checked = fits(&b[0], n, 2, "values");
    if (checked) {
        Loop loop = {.some = some_finer, .n = n, .chunk = CHUNK, .b = b};
        Py_BEGIN_ALLOW_THREADS
        in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 2, checked, 1);
}

static int some_learn(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const Py_buffer *b = loop->b;
    const int32_t *at = b[0].buf, *symbols = b[1].buf;
    const int16_t *keys = b[2].buf, *values = b[3].buf;
    const uint8_t *table = b[4].buf;
    int8_t *trits = b[5].buf;
    uint8_t *surprise = b[6].buf;
    if (!within(at + begin, end - begin, b[5].len) || !are_keys(keys + begin, end - begin) ||
        !are_trits(symbols + begin, end - begin))
        return 0;
    for (Py_ssize_t i = begin; i < end; i++) {
        const int32_t p = at[i];
        const int sign = (values[p] > 0) - (values[p] < 0), trit = mirrored(symbols[i], keys[i]);
        trits[p] = (int8_t)trit;
        surprise[p] = table[keys[i] * 9 + 3 * trit + sign + 4];
    }
    return 1;
}

static PyObject *learn(PyObject *self, PyObject *args)
{
    Py_buffer b[7];
    int inside = 1, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*w*w*i", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &b[6], &threads))
        return NULL;
    Py_ssize_t n = b[0].len / 4, size = b[3].len / 2;
    int checked = fits(&b[0], n, 4, "at") && fits(&b[1], n, 4, "symbols") && fits(&b[2], n, 2, "keys") &&
                  fits(&b[3], size, 2, "values") && fits(&b[4], KEYS * 9, 1, "table") &&
                  fits(&b[5], size, 1, "trits") && fits(&b[6], size, 1, "surprise");
    if (checked) {
        Loop loop = {.some = some_learn, .n = n, .chunk = CHUNK, .b = b};
        Py_BEGIN_ALLOW_THREADS
        inside = in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 7, checked, inside);
}

static int some_move_trits(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const Py_buffer *b = loop->b;
    const int channels = loop->channels[0];
    const float *slope = b[1].buf, *curvature = b[2].buf, *costs = b[3].buf;
    const float *projected = (const float *)b[0].buf + begin * channels;
    const int16_t *keys = (const int16_t *)b[4].buf + begin * channels;
    int8_t *trits = (int8_t *)b[5].buf + begin * channels;
    if (!are_keys(keys, (end - begin) * channels))
        return 0;
    for (Py_ssize_t p = begin; p < end; p++, projected += channels, keys += channels, trits += channels)
        for (int c = 0; c < channels; c++) {
            const float *cost = costs + 3 * keys[c];
            const int trit = trits[c] < 0 ? -1 : trits[c] > 0;
            const float pull = slope[c] * projected[c], now = cost[trit + 1];
            const float up = trit < 1 ? (curvature[c] - pull) + (cost[trit + 2] - now) : 0;
            const float down = trit > -1 ? (curvature[c] + pull) + (cost[trit] - now) : 0;
            if (up < 0 && !(down < up))
                trits[c]++;
            else if (down < 0)
                trits[c]--;
        }
    return 1;
}

static PyObject *move_trits(PyObject *self, PyObject *args)
{
    Py_buffer b[6];
    int threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*w*i", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &threads))
        return NULL;
    const Py_ssize_t n = b[5].len, channels = b[1].len / 4;
    int inside = channels > 0 && channels <= CHUNK && n % channels == 0;
    const int checked = fits(&b[0], n, 4, "projected") && fits(&b[1], channels, 4, "slope") &&
                        fits(&b[2], channels, 4, "curvature") && fits(&b[3], 3 * KEYS, 4, "costs") &&
                        fits(&b[4], n, 2, "keys");
    if (checked && inside) {
        Loop loop = {.some = some_move_trits, .n = n / channels, .chunk = CHUNK / channels, .b = b};
        loop.channels[0] = (int)channels;
        Py_BEGIN_ALLOW_THREADS
        inside = in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 6, checked, inside);
}

static int some_digits(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const float *restrict latents = loop->b[0].buf;
    int16_t *restrict ninths = loop->b[1].buf;
    int8_t *restrict thirds = loop->b[2].buf, *restrict ones = loop->b[3].buf;
    const float most = (float)loop->number;
    for (Py_ssize_t i = begin; i < end; i++) {
        float x = latents[i];
        x = x > -most ? x : -most; /* also what is no number */
        x = x < most ? x : most;
        /* Rounded half to even: between 2**23 and 2**24 a float has no fraction left. */
        x = (x + ROUNDER) - ROUNDER;
        int32_t whole = (int32_t)x, sign = whole < 0 ? -1 : 1;
        int32_t third = (whole + sign) / 3, ninth = (third + sign) / 3;
        ninths[i] = (int16_t)ninth;
        thirds[i] = (int8_t)(third - 3 * ninth);
        ones[i] = (int8_t)(whole - 3 * third);
    }
    return 1;
}

static PyObject *digits(PyObject *self, PyObject *args)
{
    Py_buffer b[4];
    int limit, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*iw*w*w*i", &b[0], &limit, &b[1], &b[2], &b[3], &threads))
        return NULL;
    Py_ssize_t n = b[0].len / 4;
    int checked = fits(&b[0], n, 4, "latents") && fits(&b[1], n, 2, "ninths") && fits(&b[2], n, 1, "thirds") &&
                  fits(&b[3], n, 1, "ones");
    int inside = limit >= 0 && limit <= INT16_MAX;
    if (checked && inside) {
        Loop loop = {.some = some_digits, .n = n, .chunk = CHUNK, .b = b, .number = limit};
        Py_BEGIN_ALLOW_THREADS
        in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 4, checked, inside);
}

/* Sums of a chunk of positions, to a place of its own, so that they are added in the same order by any threads. */
static int some_squares(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const int channels = loop->channels[0];
    const float *restrict values = (const float *)loop->b[0].buf + begin * channels;
    const float step = (float)loop->number, part = 1 / step;
    double *restrict whole = loop->sums + begin / loop->chunk * 3 * channels;
    double *restrict coarse = whole + channels, *restrict fine = coarse + channels;
    for (Py_ssize_t i = begin; i < end; i++, values += channels)
        for (int c = 0; c < channels; c++) {
            const float x = values[c];
            const float left = x - ((x * part + ROUNDER) - ROUNDER) * step, least = x - ((x + ROUNDER) - ROUNDER);
            whole[c] += x * x;
            coarse[c] += left * left;
            fine[c] += least * least;
        }
    return 1;
}

static PyObject *squares(PyObject *self, PyObject *args)
{
    Py_buffer b[4];
    int step, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*iw*w*w*i", &b[0], &step, &b[1], &b[2], &b[3], &threads))
        return NULL;
    const Py_ssize_t n = b[0].len / 4, channels = b[1].len / 8;
    int checked = fits(&b[0], n, 4, "values") && fits(&b[1], channels, 8, "whole") &&
                  fits(&b[2], channels, 8, "coarse") && fits(&b[3], channels, 8, "fine");
    int inside = channels > 0 && channels <= CHUNK && n % channels == 0 && step > 0;
    if (checked && inside) {
        Loop loop = {.some = some_squares, .n = n / channels, .chunk = CHUNK / channels, .b = b, .number = step};
        loop.channels[0] = (int)channels;
        checked = sum_chunks(&loop, 3, b + 1, threads);
    }
    return finish(b, 4, checked, inside);
}

static int some_symbols_at(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const Py_buffer *b = loop->b;
    const int32_t *at = b[0].buf;
    const int8_t *trits = b[1].buf;
    const int16_t *keys = b[2].buf;
    int32_t *out = b[3].buf;
    if (!within(at + begin, end - begin, b[1].len))
        return 0;
    for (Py_ssize_t i = begin; i < end; i++)
        out[i] = mirrored(trits[at[i]], keys[i]);
    return 1;
}

static PyObject *symbols_at(PyObject *self, PyObject *args)
{
    Py_buffer b[4];
    int inside = 1, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*w*i", &b[0], &b[1], &b[2], &b[3], &threads))
        return NULL;
    Py_ssize_t n = b[0].len / 4;
    int checked = fits(&b[0], n, 4, "at") && fits(&b[2], n, 2, "keys") && fits(&b[3], n, 4, "out");
    if (checked) {
        Loop loop = {.some = some_symbols_at, .n = n, .chunk = CHUNK, .b = b};
        Py_BEGIN_ALLOW_THREADS
        inside = in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 4, checked, inside);
}

static int some_settle(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const Py_buffer *b = loop->b;
    const int32_t *at = b[0].buf, *symbols = b[1].buf;
    const int16_t *keys = b[2].buf;
    int8_t *trits = b[3].buf;
    if (!within(at + begin, end - begin, b[3].len))
        return 0;
    for (Py_ssize_t i = begin; i < end; i++)
        trits[at[i]] = (int8_t)mirrored(symbols[i], keys[i]);
    return 1;
}

static PyObject *settle(PyObject *self, PyObject *args)
{
    Py_buffer b[4];
    int inside = 1, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*w*i", &b[0], &b[1], &b[2], &b[3], &threads))
        return NULL;
    Py_ssize_t n = b[0].len / 4;
    int checked = fits(&b[0], n, 4, "at") && fits(&b[1], n, 4, "symbols") && fits(&b[2], n, 2, "keys");
    if (checked) {
        Loop loop = {.some = some_settle, .n = n, .chunk = CHUNK, .b = b};
        Py_BEGIN_ALLOW_THREADS
        inside = in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 4, checked, inside);
}

static int some_base_keys(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const Py_ssize_t from = loop->channels[0], width = loop->channels[1], channels = loop->channels[2];
    const Py_ssize_t some = loop->n ? loop->b[1].len / loop->n : 0;
    const int rows = loop->number;
    const uint8_t *restrict scale = (const uint8_t *)loop->b[0].buf + begin * width;
    const uint8_t *restrict offset = (const uint8_t *)loop->b[1].buf + begin * some;
    const int16_t *restrict shifts = loop->b[4].buf;
    uint8_t *restrict scales = (uint8_t *)loop->b[2].buf + begin * channels + from;
    int16_t *restrict out = (int16_t *)loop->b[3].buf + begin * width;
    for (Py_ssize_t p = begin; p < end; p++, scale += width, offset += some, scales += channels, out += width) {
        for (Py_ssize_t c = 0; c < width; c++) {
            const int16_t moved = (int16_t)(scale[c] + shifts[c]);
            const int16_t at = moved < 0 ? 0 : moved < SCALES ? moved : SCALES - 1;
            out[c] = (int16_t)(at * rows);
            scales[c] = (uint8_t)at;
        }
        for (Py_ssize_t c = 0; c < some; c++) {
            const int x = offset[c] - ZERO;
            out[c] = (int16_t)(out[c] + (x < 0 ? MIRROR - x : x));
        }
    }
    return 1;
}

static PyObject *base_keys(PyObject *self, PyObject *args)
{
    Py_buffer b[5];
    int begin, width, channels, rows, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*w*w*y*iiiii", &b[0], &b[1], &b[2], &b[3], &b[4], &begin, &width, &channels, &rows, &threads))
        return NULL;
    const Py_ssize_t n = b[0].len, positions = width > 0 ? n / width : 0, some = positions ? b[1].len / positions : 0;
    const int inside = is_part(begin, width, channels, n) && some <= width;
    const int checked = fits(&b[1], positions * some, 1, "offset") && fits(&b[3], n, 2, "out") &&
                        fits(&b[4], width, 2, "shifts") &&
                        (!inside || fits(&b[2], positions * channels, 1, "scales"));
    if (checked && inside) {
        Loop loop = {.some = some_base_keys, .n = positions, .chunk = CHUNK / width + 1, .b = b, .number = rows};
        loop.channels[0] = begin, loop.channels[1] = width, loop.channels[2] = channels;
        Py_BEGIN_ALLOW_THREADS
        in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 5, checked, inside);
}

static PyObject *part_symbols(PyObject *self, PyObject *args)
{
    Py_buffer b[3];
    int begin, width, channels;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*w*iii", &b[0], &b[1], &b[2], &begin, &width, &channels))
        return NULL;
    const Py_ssize_t n = b[1].len / 2;
    const int inside = is_part(begin, width, channels, n);
    const int checked = fits(&b[1], n, 2, "keys") && fits(&b[2], n, 4, "out") &&
                        (!inside || fits(&b[0], n / width * channels, 2, "values"));
    if (checked && inside) {
        const int16_t *values = (const int16_t *)b[0].buf + begin, *keys = b[1].buf;
        int32_t *out = b[2].buf;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < n; i += width, values += channels, keys += width, out += width)
            for (Py_ssize_t c = 0; c < width; c++)
                out[c] = mirrored(values[c], keys[c]);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 3, checked, inside);
}

static int some_placed(const Loop *loop, Py_ssize_t begin, Py_ssize_t end)
{
    const Py_ssize_t from = loop->channels[0], width = loop->channels[1], channels = loop->channels[2];
    const int limit = loop->number;
    const int32_t *restrict symbols = (const int32_t *)loop->b[0].buf + begin * width;
    const int16_t *restrict keys = (const int16_t *)loop->b[1].buf + begin * width;
    int16_t *restrict values = (int16_t *)loop->b[2].buf + begin * channels + from;
    for (Py_ssize_t p = begin; p < end; p++, symbols += width, keys += width, values += channels)
        for (Py_ssize_t c = 0; c < width; c++) {
            const int x = symbols[c] < -limit ? -limit : symbols[c] > limit ? limit : symbols[c];
            values[c] = (int16_t)mirrored(x, keys[c]);
        }
    return 1;
}

static PyObject *place(PyObject *self, PyObject *args)
{
    Py_buffer b[3];
    int limit, begin, channels, width, threads;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*w*iiiii", &b[0], &b[1], &b[2], &begin, &width, &channels, &limit, &threads))
        return NULL;
    Py_ssize_t n = b[0].len / 4;
    const int inside = is_part(begin, width, channels, n) && limit >= 0 && limit <= INT16_MAX;
    int checked = fits(&b[0], n, 4, "symbols") && fits(&b[1], n, 2, "keys") &&
                  (!inside || fits(&b[2], n / width * channels, 2, "values"));
    if (checked && inside) {
        Loop loop = {.some = some_placed, .n = n / width, .chunk = CHUNK / width + 1, .b = b, .number = limit};
        loop.channels[0] = begin, loop.channels[1] = width, loop.channels[2] = channels;
        Py_BEGIN_ALLOW_THREADS
        in_chunks(&loop, threads);
        Py_END_ALLOW_THREADS
    }
    return finish(b, 3, checked, inside);
}

static PyMethodDef methods[] = {
    {"rank", rank, METH_VARARGS, NULL},         {"row_keys_at", row_keys_at, METH_VARARGS, NULL},
    {"contexts", contexts, METH_VARARGS, NULL}, {"learn", learn, METH_VARARGS, NULL},
    {"settle", settle, METH_VARARGS, NULL},     {"digits", digits, METH_VARARGS, NULL},
    {"squares", squares, METH_VARARGS, NULL},   {"symbols_at", symbols_at, METH_VARARGS, NULL},
    {"place", place, METH_VARARGS, NULL},       {"base_keys", base_keys, METH_VARARGS, NULL},
    {"row_keys", row_keys, METH_VARARGS, NULL}, {"finer", finer, METH_VARARGS, NULL},
    {"part_quarters", part_quarters, METH_VARARGS, NULL}, {"scaled", scaled, METH_VARARGS, NULL},
    {"coded_symbols", coded_symbols, METH_VARARGS, NULL}, {"mean_quarters", mean_quarters, METH_VARARGS, NULL},
    {"part_symbols", part_symbols, METH_VARARGS, NULL},   {"move_trits", move_trits, METH_VARARGS, NULL},
    {"shifted", shifted, METH_VARARGS, NULL},   {"deviations", deviations, METH_VARARGS, NULL},
    {"shift_costs", shift_costs, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernels", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void)
{
    make_lanes();
    PyObject *made = find_pool() ? PyModule_Create(&module) : NULL;
    if (made && PyModule_AddIntConstant(made, "MAX_PARTS", MAX_PARTS))
        Py_CLEAR(made);
    return made;
}
