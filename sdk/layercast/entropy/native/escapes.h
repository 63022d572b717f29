/* Symbols as entries of their rows, and those that are outside (docs/entropy.md, "Symbols outside their row"). */
#ifndef LAYERCAST_ESCAPES_H
#define LAYERCAST_ESCAPES_H

#include "tables.h"

typedef struct {
    uint64_t distance; /* from its row and on which side, as one number */
    uint32_t row, at;  /* at: which symbol it is, where there is one by one */
    uint32_t length;   /* of distance + 1, in bits below its leading one */
    int32_t symbol;
} Escape;

/* Where a symbol stands in its row; its escape entry, or UINT32_MAX, if it is outside. */
static inline uint32_t entry_of(const Row *r, int32_t symbol)
{
    uint32_t entry = (uint32_t)symbol - (uint32_t)r->offset, plain = r->size - r->escaped;
    return entry < plain ? entry : r->escaped ? plain : UINT32_MAX;
}

static inline int32_t symbol_of(const Row *r, uint32_t entry)
{
    return (int32_t)((uint32_t)r->offset + entry);
}

static inline bool is_escaped(const Row *r, int32_t symbol)
{
    return r->escaped && entry_of(r, symbol) == r->size - 1;
}

/* The distance of a symbol outside a row that has an escape. */
static uint64_t fold(const Row *r, int32_t symbol)
{
    int64_t limit = (int64_t)r->offset + r->size - 1;
    return symbol >= limit ? 2 * (uint64_t)(symbol - limit) : 2 * (uint64_t)((int64_t)r->offset - 1 - symbol) + 1;
}

/* The symbol at that distance. */
static Status unfold(const Row *r, uint64_t distance, int32_t *symbol)
{
    int64_t away = (int64_t)(distance >> 1), limit = (int64_t)r->offset + r->size - 1;
    int64_t found = distance & 1 ? (int64_t)r->offset - 1 - away : limit + away;
    if (found < INT32_MIN || found > INT32_MAX)
        return DAMAGED;
    *symbol = (int32_t)found;
    return FINE;
}

/* Distances of `count` escapes: all lengths, then the low bits of all, then the high ones. */
static Status code_escapes(Coder *c, const Tables *t, Escape *escapes, size_t count)
{
    enum { LENGTHS = 33, HALF = 16 };
    uint32_t sums[LENGTHS + 1] = {0, 32752 << SHIFT};
    for (int k = 1; k < LENGTHS; k++)
        sums[k + 1] = sums[k] + ((k < 15 ? 32768u >> k : 1u) << SHIFT);
    if (reserve(c, 3 * count))
        return NO_MEMORY;
    for (Escape *e = escapes; e < escapes + count; e++) {
        for (uint64_t rest = e->distance + 1; c->writing && rest > 1; rest >>= 1)
            e->length++;
        if (e->length >= LENGTHS) /* somebody else writes into the caller's symbols meanwhile */
            return UNCODABLE;
        if (code_number(c, sums, LENGTHS, &e->length))
            return DAMAGED;
        if (!c->writing)
            e->distance = ((uint64_t)1 << e->length) - 1;
    }
    for (unsigned from = 0; from <= HALF; from += HALF)
        for (Escape *e = escapes; e < escapes + count; e++) {
            if (e->length <= from)
                continue;
            unsigned bits = e->length - from < HALF ? e->length - from : HALF;
            uint32_t number = (uint32_t)((e->distance + 1) >> from) & (((uint32_t)1 << bits) - 1);
            if (code_bits(c, bits, &number))
                return DAMAGED;
            if (!c->writing)
                e->distance += (uint64_t)number << from;
        }
    for (Escape *e = escapes; e < escapes + count && !c->writing; e++)
        if (unfold(&t->rows[e->row], e->distance, &e->symbol))
            return DAMAGED;
    return FINE;
}

/* Distances of those of `count` symbols that are escaped, or show as their row's escape when read; `at` says which
   symbols, NULL for all in order. */
static Status code_escaped(Coder *c, const Tables *t, const uint16_t *keys, int32_t *symbols, const uint32_t *at,
                           size_t count)
{
    size_t escaped = 0, listed = 0;
    for (size_t i = 0; i < count; i++) {
        size_t here = at ? at[i] : i;
        escaped += is_escaped(&t->rows[keys[here]], symbols[here]);
    }
    if (!escaped)
        return FINE;
    Escape *escapes = malloc(escaped * sizeof *escapes);
    if (!escapes)
        return NO_MEMORY;
    for (size_t i = 0; i < count && listed < escaped; i++) {
        uint32_t here = at ? at[i] : (uint32_t)i;
        const Row *r = &t->rows[keys[here]];
        if (is_escaped(r, symbols[here]))
            escapes[listed++] = (Escape){.distance = fold(r, symbols[here]), .row = keys[here], .at = here};
    }
    Status status = code_escapes(c, t, escapes, listed);
    for (size_t i = 0; i < listed && !status && !c->writing; i++)
        symbols[escapes[i].at] = escapes[i].symbol;
    free(escapes);
    return status;
}

#endif
