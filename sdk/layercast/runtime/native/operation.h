/* What a program is made of. `programs/plan.py` writes these structures as rows of int64, in the same order. */
#ifndef LAYERCAST_OPERATION_H
#define LAYERCAST_OPERATION_H

#include <stdint.h>

#define SOURCES 2
#define ADDITIONS 2
#define LANES 16 /* channels that are computed together */

/* uint8 or float32, one image row behind the other, channels last. */
typedef struct {
    int64_t base;    /* address of row 0, or its place in a thread's scratch memory */
    int64_t scratch; /* 1 if so: it then holds one row at a time */
    int64_t row;     /* bytes from one row to the next, 0 in scratch memory */
    int64_t pixel;   /* bytes from one position to the next */
    int64_t channels;
} Tensor;

enum {
    POINTWISE, DEPTHWISE, SCALE, ADD, MULTIPLY, CLIP, COPY, SHUFFLE, /* of uint8 */
    MATMUL, FILTER, WEIGH, QUANTISE, TO_BYTES, TO_FLOATS, COPY_FLOATS, /* of float32 */
    POINTWISE_FLOATS, /* of uint8, makes float32 */
    KINDS
};

/* One operation on every row of its output. What the kinds do with the fields: `rows.h`, `pointwise.h`, `matmul.h`,
`floats.h`. */
typedef struct {
    int64_t kind;
    int64_t columns; /* of the output; of the source of SHUFFLE */
    int64_t weights, bias, scale, steps, passes; /* addresses */
    int64_t zero, low, high;
    int64_t additions; /* how many of `added` there are, which are added to the result, one after the other */
    Tensor to;
    Tensor from[SOURCES], added[ADDITIONS];
} Operation;

/* Operations whose rows depend on rows of earlier stages and on their own row of this one only. */
typedef struct {
    int64_t first, end; /* operations */
    int64_t rows;
    int64_t first_need, end_need;
} Stage;

/* Rows of an earlier stage that a row needs: those at its own place in the picture, and `reach` more on each side. */
typedef struct {
    int64_t stage, reach;
} Need;

static inline uint8_t *row_of(const Tensor *t, uint8_t *scratch, int64_t y)
{
    return (t->scratch ? scratch + t->base : (uint8_t *)(intptr_t)t->base) + y * t->row;
}

#endif
