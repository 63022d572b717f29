/* The pointwise convolution of one row, for one set of instructions: included once for each, with

    TARGET             the function attribute that switches the instructions on
    NAMED(x)           x with the set's name
    POSITIONS          how many are computed together
    ADD_DOTS(s, x, w)  s (int32) and the sums of four products each of x (uint8) and w (int8, |w| <= 64)
    GROUPED            where more than a pair of products is summed in int16 first

A step is four input channels and 16 outputs: their place in a position, and 64 weights by output and channel, outputs
0-3 and 8-11 first (so are biases and scales): packing to int16 then leaves them in order. Every 16 outputs have their
own order of steps: groups of six to two whose int16 sums cannot pass 2**15 whatever the input is
(`programs/packing.py` chooses them), then single ones; `groups` says how many of each. */

#ifndef MOST_STEPS
#define MOST_STEPS 6       /* in a group */
#define FLOATS_TOGETHER 24 /* positions; a multiple of POSITIONS */
#endif

#ifdef GROUPED
#define ADD_GROUP(size)                                                                                                \
    do {                                                                                                               \
        __m256i pairs[POSITIONS][2];                                                                                   \
        _Pragma("GCC unroll 6") for (int k = 0; k < size; k++)                                                         \
        {                                                                                                              \
            const uint8_t *four = x + steps[k];                                                                        \
            const __m256i w0 = _mm256_loadu_si256((const __m256i *)(w + 4 * LANES * k));                               \
            const __m256i w1 = _mm256_loadu_si256((const __m256i *)(w + 4 * LANES * k + 32));                          \
            _Pragma("GCC unroll 4") for (int i = 0; i < m; i++)                                                        \
            {                                                                                                          \
                const __m256i fours = NAMED(broadcast)(four + i * pixel);                                              \
                pairs[i][0] = k ? _mm256_add_epi16(pairs[i][0], DOTS(fours, w0)) : DOTS(fours, w0);                    \
                pairs[i][1] = k ? _mm256_add_epi16(pairs[i][1], DOTS(fours, w1)) : DOTS(fours, w1);                    \
                __asm__("" : "+x"(pairs[i][0]), "+x"(pairs[i][1])); /* else they are regrouped, and registers spilt */ \
            }                                                                                                          \
        }                                                                                                              \
        _Pragma("GCC unroll 4") for (int i = 0; i < m; i++)                                                            \
        {                                                                                                              \
            sums[i][0] = _mm256_add_epi32(sums[i][0], WIDEN(pairs[i][0]));                                             \
            sums[i][1] = _mm256_add_epi32(sums[i][1], WIDEN(pairs[i][1]));                                             \
        }                                                                                                              \
        w += 4 * LANES * size, steps += size;                                                                          \
    } while (0)
#endif

TARGET static inline __attribute__((always_inline)) __m256i NAMED(broadcast)(const uint8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
}

/* clip(round(sums * scale) + zero) (+ what is added) of m positions; n is how many bytes may be written, see `STORE`,
`left` how many outputs there are. */
TARGET static inline __attribute__((always_inline)) void NAMED(finish)(int m, const Operation *op, __m256i sums[][2],
                                                                       const float *scale, Added added, uint8_t *to,
                                                                       int64_t n, int64_t left)
{
    const __m256i zero = _mm256_set1_epi16((int16_t)op->zero);
    const int64_t pixel = op->to.pixel;
    __m256i y[POSITIONS];
#pragma GCC unroll 4
    for (int i = 0; i < m; i++)
        y[i] = _mm256_adds_epi16(
            _mm256_packs_epi32(NAMED(rounded)(sums[i][0], scale), NAMED(rounded)(sums[i][1], scale + 8)), zero);
    add_to(m, op, added, left, y);
    int i = 0;
    for (; i + 1 < m && n >= LANES; i += 2) { /* two at once: fewer instructions */
        const __m256i two = _mm256_permute4x64_epi64(_mm256_packus_epi16(y[i], y[i + 1]), 0xd8);
        _mm_storeu_si128((__m128i *)(to + i * pixel), _mm256_castsi256_si128(two));
        _mm_storeu_si128((__m128i *)(to + (i + 1) * pixel), _mm256_extracti128_si256(two, 1));
    }
    for (; i < m; i++)
        NAMED(store)(to + i * pixel, y[i], n);
}

/* sums * scale (+ what is added) (, but at least 0) of m positions; n outputs are left. */
TARGET static inline __attribute__((always_inline)) void NAMED(finish_floats)(int m, const Operation *op,
                                                                              __m256i sums[][2], const float *scale,
                                                                              Added added, uint8_t *to, int64_t n)
{
#pragma GCC unroll 4
    for (int i = 0; i < m; i++) {
        const __m256i halves[2] = {_mm256_permute2x128_si256(sums[i][0], sums[i][1], 0x20),
                                   _mm256_permute2x128_si256(sums[i][0], sums[i][1], 0x31)};
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            const int64_t left = n - WIDTH * j;
            if (left <= 0)
                continue;
            __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(halves[j]), _mm256_loadu_ps(scale + WIDTH * j));
            if (op->additions)
                y = _mm256_add_ps(y, load_floats((const float *)moved(op, added, i, 0).at[0] + WIDTH * j, left));
            if (op->high)
                y = _mm256_max_ps(y, _mm256_setzero_ps());
            store_floats(floats(to + i * op->to.pixel) + WIDTH * j, y, left);
        }
    }
}

/* 16 outputs of m positions from output n on: y = clip(round((sum of w x + bias) * scale) + zero), or in floats. */
TARGET static inline __attribute__((always_inline)) void NAMED(pointwise_tile)(int m, const Operation *op,
                                                                               const uint8_t *x, const int8_t *w,
                                                                               const int32_t *steps,
                                                                               const int32_t *groups, int64_t n,
                                                                               Added added, uint8_t *to)
{
    const int32_t *bias = (const int32_t *)(intptr_t)op->bias + n;
    const float *scale = (const float *)(intptr_t)op->scale + n;
    const int64_t pixel = op->from[0].pixel;
    __m256i sums[POSITIONS][2];
#pragma GCC unroll 4
    for (int i = 0; i < m; i++) {
        sums[i][0] = _mm256_loadu_si256((const __m256i *)bias);
        sums[i][1] = _mm256_loadu_si256((const __m256i *)(bias + 8));
    }
#ifdef GROUPED
    for (int32_t group = 0; group < groups[0]; group++)
        ADD_GROUP(6);
    for (int32_t group = 0; group < groups[1]; group++)
        ADD_GROUP(5);
    for (int32_t group = 0; group < groups[2]; group++)
        ADD_GROUP(4);
    for (int32_t group = 0; group < groups[3]; group++)
        ADD_GROUP(3);
    for (int32_t group = 0; group < groups[4]; group++)
        ADD_GROUP(2);
#endif
    for (int32_t step = 0; step < groups[MOST_STEPS - 1]; step++, w += 4 * LANES) {
        const __m256i w0 = _mm256_loadu_si256((const __m256i *)w), w1 = _mm256_loadu_si256((const __m256i *)(w + 32));
#pragma GCC unroll 4
        for (int i = 0; i < m; i++) {
            const __m256i fours = NAMED(broadcast)(x + steps[step] + i * pixel);
            sums[i][0] = ADD_DOTS(sums[i][0], fours, w0);
            sums[i][1] = ADD_DOTS(sums[i][1], fours, w1);
        }
    }
    if (op->kind == POINTWISE)
        NAMED(finish)(m, op, sums, scale, added, to, op->to.pixel - n, op->to.channels - n);
    else
        NAMED(finish_floats)(m, op, sums, scale, added, to, op->to.channels - n);
}

/* POINTWISE, and POINTWISE_FLOATS, whose scales are in the outputs' order, and which is otherwise like `matmul`. Floats,
and what is added to them, take so much of the cache that all outputs of some positions come before the next ones. */
TARGET static void NAMED(pointwise)(const Operation *op, uint8_t *scratch, int64_t y)
{
    const uint8_t *from = row_of(&op->from[0], scratch, y);
    const int64_t size = op->kind == POINTWISE ? 1 : sizeof(float), pixel = op->from[0].pixel, to_pixel = op->to.pixel;
    const int64_t together = op->kind == POINTWISE ? op->columns : FLOATS_TOGETHER;
    uint8_t *to = row_of(&op->to, scratch, y);
    for (int64_t begin = 0; begin < op->columns; begin += together) {
        const int8_t *w = (const int8_t *)(intptr_t)op->weights;
        const int32_t *steps = (const int32_t *)(intptr_t)op->steps, *groups = (const int32_t *)(intptr_t)op->groups;
        for (int64_t n = 0; n < op->to.channels; n += LANES, groups += MOST_STEPS) {
            const uint8_t *x = from + begin * pixel;
            uint8_t *out = to + begin * to_pixel + n * size;
            Added added = moved(op, added_at(op, scratch, y), begin, n * size);
            int64_t left = op->columns - begin < together ? op->columns - begin : together;
            for (; left >= POSITIONS; left -= POSITIONS) {
                NAMED(pointwise_tile)(POSITIONS, op, x, w, steps, groups, n, added, out);
                x += POSITIONS * pixel, added = moved(op, added, POSITIONS, 0), out += POSITIONS * to_pixel;
            }
            for (; left; left--, x += pixel, added = moved(op, added, 1, 0), out += to_pixel)
                NAMED(pointwise_tile)(1, op, x, w, steps, groups, n, added, out);
            int32_t taken = 0;
            for (int32_t i = 0; i < MOST_STEPS; i++)
                taken += (MOST_STEPS - i) * groups[i];
            w += 4 * LANES * taken;
            steps += taken;
        }
    }
}
#ifdef ADD_GROUP
#undef ADD_GROUP
#endif
