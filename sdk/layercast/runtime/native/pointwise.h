/* The pointwise convolution of one row, for one set of instructions: included once for each, with

    TARGET             the function attribute that switches the instructions on
    NAMED(x)           x with the set's name
    BEGIN(s, x, w)     what a group begins with: sums of products of x (four uint8, again and again) and w (int8,
                       |w| <= 64), where s (int32) are the sums so far
    GO_ON(g, x, w)     a group g, and such products
    END(s, g)          the sums with a group

A step is four input channels and 16 outputs: their place in a position, and 64 weights by output and channel, outputs
0-3 and 8-11 first (so are biases and scales): packing to int16 then leaves them in order. Every 16 outputs have their
own order of steps, in groups of up to six; where products are summed in int16 first, `programs/packing.py` chooses
groups whose sums cannot pass 2**15 whatever the input is. One to three groups, up to eight steps, are a pass: it goes
over many positions, whose sums are in the cache meanwhile, with its weights in registers, and no branch depends on how
many groups of which size there are. Measured, with the exact prior: 1.2 times as fast as all groups of three positions,
whose sums stayed in registers. */

#ifndef MOST_STEPS
#define MOST_STEPS 8       /* in a pass; synthesis took 1.02 times as long with 6, all of whose weights have registers */
#define TOGETHER 96        /* positions: their sums are a fifth of the first cache */
#define FLOATS_TOGETHER 24 /* of those that make floats */

/* Steps of a pass's groups, in the order of PASSES in `programs/packing.py`. */
#define EACH_PASS(P)                                                                                                   \
    P(6, 2, 0) P(6, 1, 1) P(5, 3, 0) P(5, 2, 1) P(4, 4, 0) P(4, 3, 1) P(4, 2, 2) P(3, 3, 2) P(6, 1, 0) P(5, 2, 0)      \
    P(5, 1, 1) P(4, 3, 0) P(4, 2, 1) P(3, 3, 1) P(3, 2, 2) P(6, 0, 0) P(5, 1, 0) P(4, 2, 0) P(4, 1, 1) P(3, 3, 0)      \
    P(3, 2, 1) P(2, 2, 2) P(5, 0, 0) P(4, 1, 0) P(3, 2, 0) P(3, 1, 1) P(2, 2, 1) P(4, 0, 0) P(3, 1, 0) P(2, 2, 0)      \
    P(2, 1, 1) P(3, 0, 0) P(2, 1, 0) P(1, 1, 1) P(2, 0, 0) P(1, 1, 0) P(1, 0, 0)
#define COUNT_STEPS(a, b, c) a + b + c,

static const int64_t STEPS[] = {EACH_PASS(COUNT_STEPS)};

typedef __m256i Sums[2]; /* of a position: 16 int32 */

typedef void AddPass(const uint8_t *x, int64_t pixel, const int8_t *w, const int32_t *steps, const int32_t *bias,
                     Sums *sums, int64_t n);
#endif

/* clip(round(sums * scale) + zero) (+ what is added), between low and high, of m <= 2 positions; n is how many bytes may
be written, see `STORE`, `left` how many outputs there are. */
TARGET static inline __attribute__((always_inline)) void NAMED(finish)(int m, const Operation *op, const Sums *sums,
                                                                       const float *scale, Added added, uint8_t *to,
                                                                       int64_t n, int64_t left)
{
    const __m256i zero = _mm256_set1_epi16((int16_t)op->zero), low = _mm256_set1_epi8((char)op->low),
                  high = _mm256_set1_epi8((char)op->high);
    const int64_t pixel = op->to.pixel;
    __m256i y[2];
#pragma GCC unroll 2
    for (int i = 0; i < m; i++)
        y[i] = _mm256_adds_epi16(
            _mm256_packs_epi32(NAMED(rounded)(sums[i][0], scale), NAMED(rounded)(sums[i][1], scale + 8)), zero);
    add_to(m, op, added, left, y);
    if (m == 2 && n >= LANES) { /* at once: fewer instructions */
        __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi16(y[0], y[1]), 0xd8);
        both = _mm256_min_epu8(_mm256_max_epu8(both, low), high);
        _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(both));
        _mm_storeu_si128((__m128i *)(to + pixel), _mm256_extracti128_si256(both, 1));
        return;
    }
    const __m256i least = _mm256_set1_epi16((int16_t)op->low), most = _mm256_set1_epi16((int16_t)op->high);
    for (int i = 0; i < m; i++)
        NAMED(store)(to + i * pixel, _mm256_min_epi16(_mm256_max_epi16(y[i], least), most), n);
}

/* sums * scale (+ what is added) (, but at least 0) of some positions; n of 16 outputs there are. */
TARGET static inline __attribute__((always_inline)) void NAMED(finish_floats)(const Operation *op, const Sums *sums,
                                                                              const float *scale, Added added,
                                                                              uint8_t *to, int64_t n, int64_t positions)
{
    const bool adds = op->additions, positive = op->high;
    const int64_t pixel = op->to.pixel, added_pixel = op->added[0].pixel;
    const uint8_t *other = (const uint8_t *)added.at[0];
    for (int64_t i = 0; i < positions; i++, to += pixel, other += added_pixel) {
        const __m256i halves[2] = {_mm256_permute2x128_si256(sums[i][0], sums[i][1], 0x20),
                                   _mm256_permute2x128_si256(sums[i][0], sums[i][1], 0x31)};
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            if (n <= WIDTH * j)
                continue;
            __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(halves[j]), _mm256_loadu_ps(scale + WIDTH * j));
            if (adds)
                y = _mm256_add_ps(y, load_floats((const float *)(const void *)other + WIDTH * j, n - WIDTH * j));
            if (positive)
                y = _mm256_max_ps(y, _mm256_setzero_ps());
            store_floats(floats(to) + WIDTH * j, y, n - WIDTH * j);
        }
    }
}

/* To n positions' sums, or to the biases where there are any, a pass's products. */
TARGET static inline __attribute__((always_inline)) void NAMED(add_pass)(int first, int second, int third,
                                                                         const uint8_t *x, int64_t pixel,
                                                                         const int8_t *w, const int32_t *steps,
                                                                         const int32_t *bias, Sums *sums, int64_t n)
{
    const int size = first + second + third;
    __m256i weights[MOST_STEPS][2];
    int64_t at[MOST_STEPS];
#pragma GCC unroll 8
    for (int k = 0; k < size; k++) {
        weights[k][0] = _mm256_loadu_si256((const __m256i *)(w + 4 * LANES * k));
        weights[k][1] = _mm256_loadu_si256((const __m256i *)(w + 4 * LANES * k + 32));
        at[k] = steps[k];
    }
    const __m256i *from = bias ? (const __m256i *)bias : *sums;
    for (int64_t i = 0; i < n; i++, x += pixel, from += bias ? 0 : 2) {
        __m256i sum[2] = {_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)}, group[2];
#pragma GCC unroll 8
        for (int k = 0; k < size; k++) {
            const bool begins = k == 0 || k == first || k == first + second;
            int32_t four;
            memcpy(&four, x + at[k], sizeof four);
            const __m256i fours = _mm256_set1_epi32(four);
#pragma GCC unroll 2
            for (int j = 0; j < 2; j++) {
                if (begins && k)
                    sum[j] = END(sum[j], group[j]);
                group[j] = begins ? BEGIN(sum[j], fours, weights[k][j]) : GO_ON(group[j], fours, weights[k][j]);
            }
            __asm__("" : "+x"(group[0]), "+x"(group[1])); /* else they are regrouped, and registers spilt */
        }
        sums[i][0] = END(sum[0], group[0]);
        sums[i][1] = END(sum[1], group[1]);
    }
}

#define PASS(a, b, c)                                                                                                  \
    TARGET static void NAMED(add_##a##b##c)(const uint8_t *x, int64_t pixel, const int8_t *w, const int32_t *steps,    \
                                            const int32_t *bias, Sums *sums, int64_t n)                                \
    {                                                                                                                  \
        NAMED(add_pass)(a, b, c, x, pixel, w, steps, bias, sums, n);                                                   \
    }
EACH_PASS(PASS)
#undef PASS

#define PASS(a, b, c) NAMED(add_##a##b##c),
static AddPass *const NAMED(PASSES)[] = {EACH_PASS(PASS)};
#undef PASS

/* 16 outputs of some positions, whose sums are there. */
TARGET static void NAMED(finish_all)(const Operation *operation, const Sums *sums, const float *scale, Added added,
                                     uint8_t *to, int64_t n, int64_t positions)
{
    /* A copy: any byte that is stored might else be one of its fields, and all were read again for each position. */
    const Operation own = *operation, *const op = &own;
    const int64_t pixel = op->to.pixel, left = op->to.channels - n;
    if (op->kind == POINTWISE_FLOATS) {
        if (left >= LANES)
            NAMED(finish_floats)(op, sums, scale, added, to, LANES, positions);
        else
            NAMED(finish_floats)(op, sums, scale, added, to, left, positions);
        return;
    }
    for (; positions >= 2; positions -= 2, sums += 2, added = moved(op, added, 2, 0), to += 2 * pixel)
        NAMED(finish)(2, op, sums, scale, added, to, pixel - n, left);
    if (positions)
        NAMED(finish)(1, op, sums, scale, added, to, pixel - n, left);
}

/* y = clip(round((sum of w x + bias) * scale) + zero) (+ what is added): POINTWISE. Or in floats: POINTWISE_FLOATS, whose
scales are in the outputs' order, and which is otherwise like `matmul`; they, and what is added to them, take so much of
the cache that all outputs of few positions come before the next ones.

`passes`: numbers in EACH_PASS of the passes of every 16 outputs, and -1 behind them. */
TARGET static void NAMED(pointwise)(const Operation *op, uint8_t *scratch, int64_t y)
{
    Sums sums[TOGETHER];
    const uint8_t *x = row_of(&op->from[0], scratch, y);
    const int64_t size = op->kind == POINTWISE ? 1 : sizeof(float), pixel = op->from[0].pixel, to_pixel = op->to.pixel;
    const int64_t most = op->kind == POINTWISE ? TOGETHER : FLOATS_TOGETHER;
    uint8_t *to = row_of(&op->to, scratch, y);
    for (int64_t begin = 0, some; begin < op->columns; begin += some, x += some * pixel, to += some * to_pixel) {
        const int8_t *w = (const int8_t *)(intptr_t)op->weights;
        const int32_t *steps = (const int32_t *)(intptr_t)op->steps, *pass = (const int32_t *)(intptr_t)op->passes;
        some = op->columns - begin < most ? op->columns - begin : most;
        for (int64_t n = 0; n < op->to.channels; n += LANES, pass++) {
            const int32_t *bias = (const int32_t *)(intptr_t)op->bias + n;
            for (; *pass >= 0; w += 4 * LANES * STEPS[*pass], steps += STEPS[*pass], bias = NULL, pass++)
                NAMED(PASSES)[*pass](x, pixel, w, steps, bias, sums, some);
            const Added added = moved(op, added_at(op, scratch, y), begin, n * size);
            NAMED(finish_all)(op, sums, (const float *)(intptr_t)op->scale + n, added, to + n * size, n, some);
        }
    }
}
