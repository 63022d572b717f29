/* Rows of integer tables, and models of them to search in, made at first use and kept.

A model is the running sums of its frequencies, and for each of 2^n equal parts of their range the entry that it
begins in: a search looks there and at few entries behind. Any thread may be the first to need a model; whoever
is first publishes it with one atomic exchange, and none is changed or freed before the tables are. */
#ifndef LAYERCAST_TABLES_H
#define LAYERCAST_TABLES_H

#include <stdatomic.h>

#include "range.h"

#define SHIFT 8 /* frequencies of rows sum to 2^16, those of the coder to 2^24 */
#define MAX_ROWS ((size_t)1 << 16)
#define MAX_ENTRIES ((size_t)1 << 22)
#define UNREST_LIMIT 4095
#define NARROW 16
#define MAX_BUNDLED 64
#define PACK_FROM 128
#define PACK_LEAST 128
#define PACK_SHARE 2
#define PACK_LIMIT 8192
#define MAX_PACKED 90 /* entries of a row, the square of which is at most PACK_LIMIT */
#define POWERS 4      /* 1, 2, 4 or 8 symbols are packed */

#define PARTS_PER_ENTRY 8 /* few parts have a border inside, and only such a search cannot be foreseen */
#define MAX_PARTS_LOG 12  /* the list of parts fits the first cache beside the sums */
#define LINEAR 4          /* so many entries are looked at one by one, more are halved */
#define KEPT_BYTES ((size_t)32 << 20) /* of all models of a set of tables; beyond, they are made anew */

typedef struct {
    uint32_t size;
    unsigned shift;
    const uint32_t *sums;  /* size + 1 */
    const uint16_t *first; /* entry at the begin of each part, and the last entry */
} Model;

typedef struct {
    uint32_t at, size; /* its size + 1 sums begin there */
    int32_t offset;
    uint32_t width;    /* size rounded up to a power of two */
    uint16_t calm, unrest;
    bool escaped;
    _Atomic(Model *) models[POWERS];
} Row;

typedef struct Tables {
    uint32_t count, widest;
    Row *rows;
    uint32_t *sums;
    uint16_t *unrest; /* of each row once more, close together */
    int32_t *calm;    /* the likeliest symbol of each row, likewise */
    struct Tables *flags; /* how flags of quiet blocks are coded; without, there are no such blocks */
    uint8_t flag_rows[UNREST_LIMIT];
    atomic_size_t kept;
} Tables;

static void free_tables(Tables *t)
{
    for (size_t row = 0; t->rows && row < t->count; row++)
        for (int power = 0; power < POWERS; power++)
            free(atomic_load(&t->rows[row].models[power]));
    free(t->rows);
    free(t->sums);
    free(t->unrest);
    free(t->calm);
}

/* How many times 2 symbols are packed where there are `count` of a row of `size` entries. */
static int packing(uint32_t size, size_t count)
{
    size_t limit = count / PACK_SHARE;
    limit = limit < PACK_LEAST ? PACK_LEAST : limit > PACK_LIMIT ? PACK_LIMIT : limit;
    if (count < PACK_FROM || size == 1 || size > MAX_PACKED)
        return 0;
    int power = 0;
    for (size_t joint = (size_t)size * size; joint <= limit; joint *= joint)
        if (++power == POWERS - 1)
            break;
    return power;
}

static uint32_t joint_size(uint32_t size, int power)
{
    while (power-- > 0)
        size *= size;
    return size;
}

/* A model with room for `size` entries; the caller fills in the sums, then calls `index_model`. */
static Model *new_model(uint32_t size, bool own_sums)
{
    unsigned parts = 2;
    while (parts < MAX_PARTS_LOG && (uint32_t)1 << parts < PARTS_PER_ENTRY * size)
        parts++;
    size_t sums = own_sums ? (size + (size_t)1) * sizeof(uint32_t) : 0;
    size_t first = (((size_t)1 << parts) + 1) * sizeof(uint16_t);
    Model *m = malloc(sizeof *m + sums + first);
    if (m) {
        m->size = size;
        m->shift = BITS - parts;
        m->sums = (const uint32_t *)(m + 1);
        m->first = (const uint16_t *)((const char *)(m + 1) + sums);
    }
    return m;
}

static size_t model_bytes(const Model *m)
{
    return sizeof *m + (m->size + (size_t)1) * sizeof(uint32_t) + ((size_t)2 << (BITS - m->shift));
}

static void index_model(Model *m)
{
    uint16_t *first = (uint16_t *)m->first;
    uint32_t entry = 0, part = 0;
    for (; part < (uint32_t)1 << (BITS - m->shift); part++) {
        while (m->sums[entry + 1] <= part << m->shift)
            entry++;
        first[part] = (uint16_t)entry;
    }
    first[part] = (uint16_t)(m->size - 1);
}

/* The frequencies of two symbols after each other, n^2 from n: see "Packed". */
static void square(const uint32_t *from, uint32_t n, uint32_t *to)
{
    uint32_t largest = 0;
    int64_t missing = WHOLE;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) {
            uint32_t both = (uint32_t)((uint64_t)from[i] * from[j] >> BITS), at = i * n + j;
            to[at] = both ? both : 1;
            missing -= to[at];
            if (to[at] > to[largest])
                largest = at;
        }
    to[largest] = (uint32_t)(to[largest] + missing);
}

static Model *make_model(const uint32_t *sums, uint32_t size, int power)
{
    Model *m = new_model(joint_size(size, power), power > 0);
    if (!m)
        return NULL;
    if (!power) {
        m->sums = sums;
    } else {
        uint32_t *room = malloc(2 * (size_t)m->size * sizeof *room);
        if (!room) {
            free(m);
            return NULL;
        }
        uint32_t *one = room, *two = room + m->size;
        for (uint32_t i = 0; i < size; i++)
            one[i] = sums[i + 1] - sums[i];
        for (; power > 0; power--, size *= size) {
            square(one, size, two);
            uint32_t *swapped = one;
            one = two;
            two = swapped;
        }
        uint32_t *to = (uint32_t *)m->sums;
        to[0] = 0;
        for (uint32_t i = 0; i < m->size; i++)
            to[i + 1] = to[i] + one[i];
        /* No row of at most MAX_PACKED entries loses its largest product to rounding; if one did, the search would
           still have to end. */
        bool rises = to[m->size] == WHOLE;
        for (uint32_t i = 0; i < m->size; i++)
            rises &= to[i] < to[i + 1];
        free(room);
        if (!rises) {
            free(m);
            return NULL;
        }
    }
    index_model(m);
    return m;
}

/* The model of numbers of 2^power symbols of a row, or NULL for lack of memory. Give it back to `drop_model`. */
static Model *get_model(Tables *t, uint32_t row, int power)
{
    _Atomic(Model *) *place = &t->rows[row].models[power];
    Model *found = atomic_load_explicit(place, memory_order_acquire);
    if (found)
        return found;
    Model *made = make_model(t->sums + t->rows[row].at, t->rows[row].size, power);
    if (!made || atomic_load(&t->kept) + model_bytes(made) > KEPT_BYTES)
        return made; /* not kept: drop_model frees it */
    if (!atomic_compare_exchange_strong(place, &found, made)) {
        free(made);
        return found;
    }
    atomic_fetch_add(&t->kept, model_bytes(made));
    return made;
}

static void drop_model(Tables *t, uint32_t row, int power, Model *m)
{
    if (m != atomic_load_explicit(&t->rows[row].models[power], memory_order_relaxed))
        free(m);
}

/* The entry at `place`, which is below WHOLE. */
static inline uint32_t search(const Model *m, const uint32_t *sums, const uint16_t *first, uint32_t place)
{
    uint32_t part = place >> m->shift, entry = first[part], last = first[part + 1];
    while (last - entry > LINEAR) {
        uint32_t middle = (entry + last + 1) / 2;
        if (sums[middle] <= place)
            entry = middle;
        else
            last = middle - 1;
    }
    while (sums[entry + 1] <= place)
        entry++;
    return entry;
}

#endif
