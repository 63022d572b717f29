/* The range coder's arithmetic (docs/entropy.md, "The range coder and its bytes"), and numbers that it codes.

Writer and reader share every function that follows an order: `Coder.writing` says in which direction a number goes,
so that the order of coding is written down once. Nothing here allocates except `reserve`, and no number read from a
stream is used as an index before it was checked. */
#ifndef LAYERCAST_RANGE_H
#define LAYERCAST_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BITS 24
#define WHOLE ((uint32_t)1 << BITS)
#define LEAST_RANGE ((uint64_t)1 << 32)

typedef enum {
    FINE = 0,
    DAMAGED,   /* no encoder writes these bytes */
    UNCODABLE, /* a symbol is outside a row that has no escape */
    NO_MEMORY,
} Status;

/* low: writing, the interval's lower end; reading, how far the stream's number lies above it (always below range, and
   that is all a reader needs). words: as numbers. Writing, `at` are taken of `room`; reading, `at` is the next of
   `room`, and words[room] is a zero, which a reader finds as often as it asks. */
typedef struct {
    bool writing;
    uint64_t low, range;
    uint32_t *words;
    size_t at, room;
} Coder;

/* Have room for a word for each of so many numbers: none puts out more. */
static Status reserve(Coder *c, size_t numbers)
{
    if (!c->writing || c->room - c->at >= numbers)
        return FINE;
    size_t room = c->at + c->at / 2 + numbers + 64;
    if (room < c->at || room > SIZE_MAX / sizeof *c->words)
        return NO_MEMORY;
    uint32_t *words = realloc(c->words, room * sizeof *words);
    if (!words)
        return NO_MEMORY;
    c->words = words;
    c->room = room;
    return FINE;
}

/* Narrow a writer's interval to the share of a number that begins at `left`. */
static inline void write_share(Coder *c, uint32_t left, uint32_t share)
{
    uint64_t scale = c->range >> BITS, more = scale * left;
    c->low += more;
    if (c->low < more) /* a carry goes into the words before */
        for (size_t i = c->at; i > 0 && ++c->words[i - 1] == 0; i--)
            ;
    c->range = scale * share;
    if (c->range < LEAST_RANGE) {
        c->words[c->at++] = (uint32_t)(c->low >> 32);
        c->low <<= 32;
        c->range <<= 32;
    }
}

/* Where in 0..WHOLE - 1 a reader's number lies; WHOLE or a little more where no encoder ends. */
static inline uint32_t quantile(const Coder *c)
{
    return (uint32_t)(c->low / (c->range >> BITS));
}

/* Narrow a reader's interval; without a branch, for whether a word is due cannot be foreseen. */
static inline void read_share(Coder *c, uint32_t left, uint32_t share)
{
    uint64_t scale = c->range >> BITS, low = c->low - scale * left, range = scale * share;
    bool due = range < LEAST_RANGE;
    uint32_t word = c->words[c->at];
    c->low = due ? low << 32 | word : low;
    c->range = due ? range << 32 : range;
    c->at += due & (c->at < c->room);
}

/* One of `size` numbers, whose shares are the differences of the `size` + 1 sums; a search in all of them. */
static inline Status code_number(Coder *c, const uint32_t *sums, uint32_t size, uint32_t *number)
{
    uint32_t entry = *number;
    if (c->writing) {
        write_share(c, sums[entry], sums[entry + 1] - sums[entry]);
        return FINE;
    }
    uint32_t place = quantile(c);
    if (place >= WHOLE)
        return DAMAGED;
    entry = 0;
    for (uint32_t i = 1; i < size; i++)
        entry += sums[i] <= place;
    read_share(c, sums[entry], sums[entry + 1] - sums[entry]);
    *number = entry;
    return FINE;
}

/* `bits` bits, 1..16, all equally likely. */
static inline Status code_bits(Coder *c, unsigned bits, uint32_t *number)
{
    unsigned shift = BITS - bits;
    if (c->writing) {
        write_share(c, *number << shift, (uint32_t)1 << shift);
        return FINE;
    }
    uint32_t place = quantile(c);
    if (place >= WHOLE)
        return DAMAGED;
    *number = place >> shift;
    read_share(c, *number << shift, (uint32_t)1 << shift);
    return FINE;
}

#endif
