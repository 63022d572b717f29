/* A piece: symbols grouped by table row, and how each group is coded (docs/entropy.md, "The order of coding").

Both directions follow the same functions. In between, symbols are entries of their rows, by row, and in the order
given within a row: `entries`. An escaped symbol stands there as its row's escape entry, and beside it in a list. */
#ifndef LAYERCAST_PIECE_H
#define LAYERCAST_PIECE_H

#include "escapes.h"

#define RUN_FROM 24
#define AS_GIVEN_BELOW 2048
#define MAX_SYMBOLS ((size_t)1 << 18) /* of a portion: what a call allocates is a small multiple of it */

/* The symbols of one row. */
typedef struct {
    uint32_t row, begin, count;
    uint32_t coded; /* how many, from its begin on, are packed */
} Group;

/* What the passes over the symbols in the order given need of a row; one cache line holds four. */
typedef struct {
    uint32_t next;   /* where its next symbol is among the entries */
    uint32_t escape; /* its escape entry, or NO_ESCAPE */
    uint32_t ranked; /* which escape its next one is */
    int32_t offset;
} Slot;

#define NO_ESCAPE UINT32_MAX

typedef struct {
    Tables *tables;
    size_t count;    /* symbols */
    size_t groups;
    size_t escapes;
    Group *group;
    Slot *slots;     /* of each row */
    uint64_t *packed; /* power, size and group of what is packed, in the order of coding */
    uint16_t *entries;
    Escape *escape;
} Piece;

static void free_piece(Piece *p)
{
    free(p->group);
    free(p->slots);
    free(p->packed);
    free(p->entries);
    free(p->escape);
}

/* A symbol in a bundle of this width: its row's largest frequency gives one to each column beyond the row. */
static inline Status code_bundled(Coder *c, const Tables *t, uint32_t row, uint32_t width, uint32_t *entry)
{
    const Row *r = &t->rows[row];
    const uint32_t *sums = t->sums + r->at;
    uint32_t empty = width - r->size, calm = r->calm, found = *entry;
    if (!c->writing) {
        uint32_t place = quantile(c);
        if (place >= WHOLE - empty)
            return DAMAGED;
        place += place >= sums[calm + 1] - empty ? empty : 0;
        found = 0;
        for (uint32_t i = 1; i < r->size; i++)
            found += sums[i] <= place;
    }
    uint32_t left = sums[found] - (found > calm ? empty : 0);
    uint32_t share = sums[found + 1] - sums[found] - (found == calm ? empty : 0);
    if (c->writing)
        write_share(c, left, share);
    else
        read_share(c, left, share);
    *entry = found;
    return FINE;
}

/* `count` numbers under one model, each of which has `each` entries as its digits in base `size`. */
static inline Status code_run(Coder *coder, const Model *m, uint32_t size, const uint8_t *digits, unsigned each,
                              uint16_t *entries, size_t count)
{
    const uint32_t *sums = m->sums;
    const uint16_t *first = m->first;
    Coder c = *coder; /* in registers */
    Status status = FINE;
    if (c.writing) {
        for (size_t i = 0; i < count; i++, entries += each) {
            uint32_t number = entries[0];
            for (unsigned k = 1; k < each; k++)
                number = number * size + entries[k];
            write_share(&c, sums[number], sums[number + 1] - sums[number]);
        }
    } else {
        for (size_t i = 0; i < count; i++, entries += each) {
            uint32_t place = quantile(&c);
            if (place >= WHOLE) {
                status = DAMAGED;
                break;
            }
            uint32_t number = search(m, sums, first, place);
            read_share(&c, sums[number], sums[number + 1] - sums[number]);
            if (each == 1)
                entries[0] = (uint16_t)number;
            else
                for (unsigned k = 0; k < each; k++)
                    entries[k] = digits[(size_t)number * each + k];
        }
    }
    *coder = c;
    return status;
}

/* The digits of all numbers of 2^power symbols of `size` entries, a byte each; kept for good, 0.6 MB if all are. */
static const uint8_t *digits_of(uint32_t size, int power)
{
    static _Atomic(uint8_t *) made[POWERS][MAX_PACKED + 1];
    uint8_t *found = atomic_load_explicit(&made[power][size], memory_order_acquire);
    if (found)
        return found;
    uint32_t each = (uint32_t)1 << power, numbers = joint_size(size, power);
    uint8_t *digits = malloc((size_t)numbers * each);
    for (uint32_t number = 0; digits && number < numbers; number++)
        for (uint32_t k = each, rest = number; k-- > 0; rest /= size)
            digits[(size_t)number * each + k] = (uint8_t)(rest % size);
    if (digits && !atomic_compare_exchange_strong(&made[power][size], &found, digits)) {
        free(digits);
        return found;
    }
    return digits;
}

/* `numbers` numbers of 2^power symbols each of one row. */
static Status code_row(Coder *c, Tables *t, uint32_t row, int power, uint16_t *entries, size_t numbers)
{
    uint32_t size = t->rows[row].size;
    const uint8_t *digits = power ? digits_of(size, power) : NULL;
    Model *m = get_model(t, row, power);
    Status status = NO_MEMORY;
    if (m && (digits || !power) && !reserve(c, numbers)) {
        switch (power) { /* one copy of the loop for each, in which `each` is a constant */
        case 0:
            status = code_run(c, m, size, NULL, 1, entries, numbers);
            break;
        case 1:
            status = code_run(c, m, size, digits, 2, entries, numbers);
            break;
        case 2:
            status = code_run(c, m, size, digits, 4, entries, numbers);
            break;
        default:
            status = code_run(c, m, size, digits, 8, entries, numbers);
        }
    }
    drop_model(t, row, power, m);
    return status;
}

/* All that a sorted piece codes, less the escapes' distances. */
static Status code_groups(Coder *c, Piece *p, size_t packed)
{
    Tables *t = p->tables;
    Status status;
    for (size_t i = 0; i < packed; i++) {
        Group *g = &p->group[p->packed[i] & 0xFFFF];
        int power = (int)(p->packed[i] >> 32);
        if ((status = code_row(c, t, g->row, power, p->entries + g->begin, g->coded >> power)))
            return status;
    }
    uint32_t widths = 0; /* of what is bundled, as a set of powers of two */
    for (size_t i = 0; i < p->groups; i++) {
        Group *g = &p->group[i];
        uint32_t left = g->count - g->coded, width = t->rows[g->row].width;
        if (width == 1) {
            if (!c->writing)
                memset(p->entries + g->begin, 0, g->count * sizeof *p->entries);
        } else if (left >= RUN_FROM || (left && width > MAX_BUNDLED)) {
            if ((status = code_row(c, t, g->row, 0, p->entries + g->begin + g->coded, left)))
                return status;
            g->coded = g->count;
        } else if (left) {
            widths |= width;
        }
    }
    if (!widths)
        return FINE;
    if (reserve(c, p->count))
        return NO_MEMORY;
    for (uint32_t width = 2; width <= MAX_BUNDLED; width *= 2)
        for (size_t i = 0; i < p->groups && widths & width; i++) {
            Group *g = &p->group[i];
            for (; t->rows[g->row].width == width && g->coded < g->count; g->coded++) {
                uint16_t *to = &p->entries[g->begin + g->coded];
                uint32_t entry = *to;
                if (code_bundled(c, t, g->row, width, &entry))
                    return DAMAGED;
                *to = (uint16_t)entry;
            }
        }
    return FINE;
}

static int ascending(const void *one, const void *two)
{
    uint64_t a, b;
    memcpy(&a, one, sizeof a);
    memcpy(&b, two, sizeof b);
    return (a > b) - (a < b);
}

/* Count and place the groups; lists what is packed, by power, size and row. */
static Status group_rows(Piece *p, const uint16_t *keys, size_t *packed)
{
    Tables *t = p->tables;
    Slot *slots = p->slots = calloc(t->count, sizeof *slots);
    size_t most = p->count < t->count ? p->count : t->count;
    p->entries = malloc(p->count * sizeof *p->entries);
    p->group = malloc(most * sizeof *p->group);
    p->packed = malloc((p->count / PACK_FROM + 1) * sizeof *p->packed);
    if (!slots || !p->entries || !p->group || !p->packed)
        return NO_MEMORY;
    for (size_t i = 0; i < p->count; i++)
        slots[keys[i]].next++;
    uint32_t begin = 0;
    *packed = 0;
    for (uint32_t row = 0; row < t->count; row++) {
        uint32_t count = slots[row].next;
        if (!count)
            continue;
        const Row *r = &t->rows[row];
        int power = packing(r->size, count);
        if (power)
            p->packed[(*packed)++] = (uint64_t)power << 32 | r->size << 16 | p->groups;
        slots[row] = (Slot){begin, r->escaped ? r->size - 1 : NO_ESCAPE, 0, r->offset};
        p->group[p->groups++] = (Group){row, begin, count, power ? count >> power << power : 0};
        begin += count;
    }
    qsort(p->packed, *packed, sizeof *p->packed, ascending);
    return FINE;
}

/* Find which entries are escapes, by row, and give each row the number of its first. */
static Status list_escapes(Piece *p)
{
    size_t found = 0;
    for (int listing = 0; listing < 2; listing++) {
        for (size_t i = 0; i < p->groups; i++) {
            const Group *g = &p->group[i];
            Slot *s = &p->slots[g->row];
            if (s->escape == NO_ESCAPE)
                continue;
            const uint16_t *entries = p->entries + g->begin;
            uint16_t escape = (uint16_t)s->escape;
            uint32_t here = 0;
            for (uint32_t k = 0; k < g->count; k++)
                here += entries[k] == escape;
            if (listing) {
                s->ranked = (uint32_t)p->escapes;
                for (; here; here--)
                    p->escape[p->escapes++] = (Escape){.row = g->row};
            } else {
                found += here;
            }
        }
        if (!found)
            return FINE;
        if (!listing && !(p->escape = malloc(found * sizeof *p->escape)))
            return NO_MEMORY;
    }
    return FINE;
}

static Status code_sorted(Coder *c, Piece *p, const uint16_t *keys, int32_t *symbols)
{
    size_t packed;
    Status status;
    if ((status = group_rows(p, keys, &packed)))
        return status;
    if (c->writing) {
        for (size_t i = 0; i < p->count; i++) {
            uint32_t entry = entry_of(&p->tables->rows[keys[i]], symbols[i]);
            if (entry == UINT32_MAX)
                return UNCODABLE;
            p->entries[p->slots[keys[i]].next++] = (uint16_t)entry;
        }
        if ((status = list_escapes(p)))
            return status;
        for (size_t i = 0; i < p->count && p->escapes; i++) {
            const Row *r = &p->tables->rows[keys[i]];
            Slot *s = &p->slots[keys[i]];
            if (entry_of(r, symbols[i]) == s->escape && s->ranked < p->escapes)
                p->escape[s->ranked++].distance = fold(r, symbols[i]);
        }
        if ((status = code_groups(c, p, packed)))
            return status;
        return code_escapes(c, p->tables, p->escape, p->escapes);
    }
    if ((status = code_groups(c, p, packed)) || (status = list_escapes(p)) ||
        (status = code_escapes(c, p->tables, p->escape, p->escapes)))
        return status;
    for (size_t i = 0; i < p->count; i++) {
        Slot *s = &p->slots[keys[i]];
        uint32_t entry = p->entries[s->next++];
        symbols[i] = entry == s->escape ? p->escape[s->ranked++].symbol : (int32_t)((uint32_t)s->offset + entry);
    }
    return FINE;
}

/* Few symbols of narrow rows: one bundle in the order given. */
static Status code_as_given(Coder *c, const Tables *t, const uint16_t *keys, size_t count, int32_t *symbols)
{
    if (reserve(c, count))
        return NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const Row *r = &t->rows[keys[i]];
        uint32_t entry = 0;
        if (c->writing && (entry = entry_of(r, symbols[i])) == UINT32_MAX)
            return UNCODABLE;
        if (r->size > 1 && code_bundled(c, t, keys[i], t->widest, &entry))
            return DAMAGED;
        if (!c->writing)
            symbols[i] = symbol_of(r, entry);
    }
    return code_escaped(c, t, keys, symbols, NULL, count);
}

/* Code at most MAX_SYMBOLS symbols under rows `keys`, all of which exist. */
static Status code_piece(Coder *c, Tables *t, const uint16_t *keys, size_t count, int32_t *symbols)
{
    if (t->widest <= NARROW && count < AS_GIVEN_BELOW)
        return code_as_given(c, t, keys, count, symbols);
    Piece p = {.tables = t, .count = count};
    Status status = count ? code_sorted(c, &p, keys, symbols) : FINE;
    free_piece(&p);
    return status;
}

#endif
