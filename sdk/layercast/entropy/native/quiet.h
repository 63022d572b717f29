/* Blocks in which nothing is likely to happen (docs/entropy.md, "Quiet blocks"), and with them whole portions. */
#ifndef LAYERCAST_QUIET_H
#define LAYERCAST_QUIET_H

#include "piece.h"

#define BLOCK 16
#define WORTH_FROM 1024
#define SAMPLED 64
#define WORTH_SHARE 2

/* A quiet block with a symbol that is not calm. */
typedef struct {
    uint32_t begin, place; /* of the block, and in it */
} Hit;

/* Consecutive symbols of the portion. */
typedef struct {
    uint32_t begin, count;
} Span;

/* The running sums of a bundle of BLOCK columns with these weights, of which there is one that is not 0. */
static Status sums_of_weights(const uint64_t weights[BLOCK], uint32_t sums[BLOCK + 1])
{
    uint64_t total = 0;
    for (int i = 0; i < BLOCK; i++)
        total += weights[i];
    if (!total)
        return DAMAGED;
    uint32_t share[BLOCK], missing = WHOLE;
    int largest = 0;
    for (int i = 0; i < BLOCK; i++) {
        share[i] = 1 + (uint32_t)(weights[i] * (WHOLE - BLOCK) / total);
        missing -= share[i];
        if (share[i] > share[largest])
            largest = i;
    }
    share[largest] += missing;
    sums[0] = 0;
    for (int i = 0; i < BLOCK; i++)
        sums[i + 1] = sums[i] + share[i];
    return FINE;
}

/* Of 2^24: how often the symbol of a row is its calm one. */
static inline uint32_t calm_share(const Tables *t, uint32_t row)
{
    const uint32_t *sums = t->sums + t->rows[row].at + t->rows[row].calm;
    return sums[1] - sums[0];
}

static Status code_place(Coder *c, const Tables *t, const uint16_t *keys, uint32_t *place)
{
    uint64_t weights[BLOCK], calm = 1 << (BITS - SHIFT);
    uint32_t sums[BLOCK + 1];
    for (int i = 0; i < BLOCK; i++) {
        uint64_t event = (WHOLE - calm_share(t, keys[i])) >> SHIFT;
        weights[i] = event * calm;
        calm -= event;
    }
    return sums_of_weights(weights, sums) ? DAMAGED : code_number(c, sums, BLOCK, place);
}

/* An entry that is not the calm one. */
static Status code_event(Coder *c, const Tables *t, uint32_t row, uint32_t *entry)
{
    const Row *r = &t->rows[row];
    const uint32_t *from = t->sums + r->at;
    uint64_t weights[BLOCK] = {0};
    uint32_t sums[BLOCK + 1];
    for (uint32_t i = 0; i < r->size; i++)
        weights[i] = i == r->calm ? 0 : from[i + 1] - from[i];
    if (sums_of_weights(weights, sums) || code_number(c, sums, BLOCK, entry))
        return DAMAGED;
    return *entry < r->size && *entry != r->calm ? FINE : DAMAGED;
}

/* Places and events of `count` blocks, and the distances of events that are escapes. */
static Status code_hits(Coder *c, const Tables *t, const uint16_t *keys, Hit *hits, size_t count, int32_t *symbols)
{
    Status status = reserve(c, 2 * count);
    uint32_t *at = malloc((count + 1) * sizeof *at);
    if (!at)
        status = NO_MEMORY;
    for (size_t i = 0; i < count && !status; i++) {
        status = code_place(c, t, keys + hits[i].begin, &hits[i].place);
        at[i] = hits[i].begin + hits[i].place;
    }
    for (size_t i = 0; i < count && !status; i++) {
        const Row *r = &t->rows[keys[at[i]]];
        uint32_t entry = 0;
        if (c->writing && (entry = entry_of(r, symbols[at[i]])) == UINT32_MAX)
            status = UNCODABLE;
        else if (!(status = code_event(c, t, keys[at[i]], &entry)) && !c->writing)
            symbols[at[i]] = symbol_of(r, entry);
    }
    if (!status)
        status = code_escaped(c, t, keys, symbols, at, count);
    free(at);
    return status;
}

/* A piece of what stands in some spans. */
static Status code_spans(Coder *c, Tables *t, const uint16_t *keys, int32_t *symbols, const Span *spans, size_t count)
{
    size_t size = 0, at = 0;
    for (size_t i = 0; i < count; i++)
        size += spans[i].count;
    if (!size)
        return FINE;
    uint16_t *some_keys = malloc(size * sizeof *some_keys);
    int32_t *some = malloc(size * sizeof *some);
    Status status = some_keys && some ? FINE : NO_MEMORY;
    for (size_t i = 0; i < count && !status; at += spans[i++].count) {
        memcpy(some_keys + at, keys + spans[i].begin, spans[i].count * sizeof *keys);
        if (c->writing)
            memcpy(some + at, symbols + spans[i].begin, spans[i].count * sizeof *symbols);
    }
    if (!status)
        status = code_piece(c, t, some_keys, size, some);
    at = 0;
    for (size_t i = 0; i < count && !status && !c->writing; at += spans[i++].count)
        memcpy(symbols + spans[i].begin, some + at, spans[i].count * sizeof *symbols);
    free(some_keys);
    free(some);
    return status;
}

static uint32_t unrest_of(const Tables *t, const uint16_t *keys)
{
    uint32_t unrest = 0;
    for (int i = 0; i < BLOCK; i++)
        unrest += t->unrest[keys[i]];
    return unrest < UNREST_LIMIT ? unrest : UNREST_LIMIT;
}

/* What a portion with quiet blocks needs, each with room for all blocks. */
typedef struct {
    uint16_t *unrest;
    uint16_t *flag_keys;
    int32_t *flags;
    Hit *hits;
    Span *spans;
} Quiet;

static Status code_quiet(Coder *c, Tables *t, const uint16_t *keys, size_t count, int32_t *symbols, Quiet *q)
{
    size_t blocks = count / BLOCK, quiet = 0, hits = 0, behind = 0, others = 0;
    Status status;
    for (size_t b = 0; b < blocks; b++) {
        uint32_t unrest = q->unrest[b], begin = (uint32_t)(b * BLOCK), place = 0;
        if (unrest == UNREST_LIMIT)
            continue;
        q->flag_keys[quiet] = t->flag_rows[unrest];
        while (c->writing && place < BLOCK && symbols[begin + place] == t->calm[keys[begin + place]])
            place++;
        q->flags[quiet] = place < BLOCK;
        if (c->writing && place < BLOCK)
            q->hits[hits++] = (Hit){begin, place};
        quiet++;
    }
    if ((status = code_piece(c, t->flags, q->flag_keys, quiet, q->flags)))
        return status;
    quiet = 0;
    for (size_t b = 0; b < blocks && !c->writing; b++) {
        uint32_t begin = (uint32_t)(b * BLOCK);
        if (q->unrest[b] == UNREST_LIMIT)
            continue;
        for (int i = 0; i < BLOCK; i++)
            symbols[begin + i] = t->calm[keys[begin + i]];
        if (q->flags[quiet++])
            q->hits[hits++] = (Hit){begin, 0};
    }
    if ((status = code_hits(c, t, keys, q->hits, hits, symbols)))
        return status;
    for (; behind < hits; behind++) {
        Hit h = q->hits[behind];
        q->spans[behind] = (Span){h.begin + h.place + 1, BLOCK - 1 - h.place};
    }
    if ((status = code_spans(c, t, keys, symbols, q->spans, behind)))
        return status;
    for (size_t b = 0; b < blocks; b++)
        if (q->unrest[b] == UNREST_LIMIT)
            q->spans[others++] = (Span){(uint32_t)(b * BLOCK), BLOCK};
    q->spans[others++] = (Span){(uint32_t)(blocks * BLOCK), (uint32_t)(count - blocks * BLOCK)};
    return code_spans(c, t, keys, symbols, q->spans, others);
}

/* Code a portion: at most MAX_SYMBOLS symbols under rows `keys`, all of which exist. */
static Status code_portion(Coder *c, Tables *t, const uint16_t *keys, size_t count, int32_t *symbols)
{
    size_t blocks = count / BLOCK, sampled = 0, quiet = 0;
    if (t->flags && blocks >= WORTH_FROM)
        for (size_t b = 0; b < blocks; b += SAMPLED, sampled++)
            quiet += unrest_of(t, keys + b * BLOCK) < UNREST_LIMIT;
    if (!sampled || quiet * WORTH_SHARE < sampled)
        return code_piece(c, t, keys, count, symbols);
    Quiet q = {malloc(blocks * sizeof *q.unrest), malloc(blocks * sizeof *q.flag_keys), malloc(blocks * sizeof *q.flags),
               malloc(blocks * sizeof *q.hits), malloc((blocks + 1) * sizeof *q.spans)};
    Status status = NO_MEMORY;
    if (q.unrest && q.flag_keys && q.flags && q.hits && q.spans) {
        quiet = 0;
        for (size_t b = 0; b < blocks; b++) {
            q.unrest[b] = (uint16_t)unrest_of(t, keys + b * BLOCK);
            quiet += q.unrest[b] < UNREST_LIMIT;
        }
        status = quiet < WORTH_FROM ? code_piece(c, t, keys, count, symbols)
                                    : code_quiet(c, t, keys, count, symbols, &q);
    }
    free(q.unrest);
    free(q.flag_keys);
    free(q.flags);
    free(q.hits);
    free(q.spans);
    return status;
}

#endif
