/* Compares the primitives of the core's own header with those of portable.h on random sizes, places and values. */
#include "trec_network.h"

#define trec_dot_s8 plain_dot_s8
#define trec_dot_s16_s8 plain_dot_s16_s8
#define trec_dot_1x4 plain_dot_1x4
#define trec_multiply plain_multiply
#define trec_multiply_narrow plain_multiply_narrow
#define trec_add_parts plain_add_parts
#define trec_round_high plain_round_high
#define trec_add_words plain_add_words
#define trec_depthwise_fours plain_depthwise_fours
#define trec_widen plain_widen
#define trec_add_row plain_add_row
#define trec_sum_terms plain_sum_terms
#define trec_requantize_rows plain_requantize_rows
#define trec_max_s8 plain_max_s8
#include "portable.h"
#undef trec_dot_s8
#undef trec_dot_s16_s8
#undef trec_dot_1x4
#undef trec_multiply
#undef trec_multiply_narrow
#undef trec_add_parts
#undef trec_round_high
#undef trec_add_words
#undef trec_depthwise_fours
#undef trec_widen
#undef trec_add_row
#undef trec_sum_terms
#undef trec_requantize_rows
#undef trec_max_s8
#if defined(__ARM_FEATURE_DSP)
#include "armv7em_dsp.h"
#else /* what these cores have of their own; the rest is portable.h's */
#define trec_dot_s8 plain_dot_s8
#define trec_dot_s16_s8 plain_dot_s16_s8
#define trec_widen plain_widen
#define trec_add_row plain_add_row
#define trec_sum_terms plain_sum_terms
#define trec_requantize_rows plain_requantize_rows
#define trec_add_words plain_add_words
#define trec_depthwise_fours plain_depthwise_fours
#define trec_max_s8 plain_max_s8
#if defined(__ARM_ARCH_6M__)
#include "armv6m.h"
#else
#define trec_round_high plain_round_high
#endif
#include "scalar.h"
#endif

enum { ROUNDS = 100, MOST = 60, BYTES = 1024 };

uint8_t trec_arena[TREC_ARENA_BYTES] __attribute__((aligned(8)));
uint32_t trec_n_clusters[TREC_N_COUNTERS];

static uint32_t state;
static int8_t bytes[2][BYTES];
static int16_t block[4 * MOST + 16];
static int32_t numbers[3][BYTES];

static int32_t draw(int32_t least, int32_t most)
{
    state = state * 1664525u + 1013904223u;
    return least + (int32_t)((state >> 8) % (uint32_t)(most - least + 1));
}

static void fill_all(void)
{
    for (int32_t i = 0; i < BYTES; i++) {
        bytes[0][i] = (int8_t)draw(-128, 127);
        bytes[1][i] = bytes[0][i];
        numbers[0][i] = draw(-8000000, 8000000);
        numbers[1][i] = numbers[0][i];
    }
    for (int32_t i = 0; i < 4 * MOST + 16; i++) {
        block[i] = (int16_t)draw(-32640, 32640);
    }
}

static int32_t differ(const void *a, const void *b, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (((const uint8_t *)a)[i] != ((const uint8_t *)b)[i]) {
            return 1;
        }
    }
    return 0;
}

/* Products as the core's own table holds two of them; in place. */
static void pack(int16_t *products, int32_t n)
{
#if !defined(__ARM_FEATURE_DSP)
    for (int32_t i = 0; i < n; i += 2) {
        const uint32_t word = (uint32_t)products[i] + ((uint32_t)products[i + 1] << 16);
        products[i] = (int16_t)(word & 0xFFFFu);
        products[i + 1] = (int16_t)(word >> 16);
    }
#else
    (void)products;
    (void)n;
#endif
}

static int32_t numbers_differ(void)
{
    return differ(numbers[0], numbers[1], (int32_t)sizeof numbers[0]);
}

static int32_t try_dot(void)
{
    const int32_t n = draw(0, 40), a = draw(0, 3), b = draw(50, 53);
    const int32_t expected = plain_dot_s8(bytes[0] + a, bytes[0] + b, n);
    return trec_dot_s8(bytes[0] + a, bytes[0] + b, n) != expected;
}

static int32_t try_dot_s16(void)
{
    const int32_t n = draw(0, 40), a = draw(0, 3), b = draw(50, 53);
    const int32_t expected = plain_dot_s16_s8(block + a, bytes[0] + b, n);
    return trec_dot_s16_s8(block + a, bytes[0] + b, n) != expected;
}

static int32_t try_dot_1x4(void)
{
    const int32_t n = draw(1, 60), step = draw(60, 75), x = draw(0, 3), kernels = draw(100, 103);
    plain_dot_1x4(bytes[0] + x, bytes[0] + kernels, step, n, numbers[0]);
    trec_dot_1x4(bytes[0] + x, bytes[0] + kernels, step, n, numbers[1]);
    return numbers_differ();
}

static int32_t try_multiply(void)
{
    const int32_t n_pairs = draw(1, MOST / 2);
    const trec_kernels kernels = {
        .first = bytes[0] + 4 * draw(0, 3),
        .step = 4 * draw(MOST / 2, 40),
        .count = draw(0, 5),
        .n_pairs = n_pairs,
    };
    plain_multiply(block, &kernels, numbers[0] + 3);
    trec_multiply(block, &kernels, numbers[1] + 3);
    return numbers_differ();
}

static int32_t try_multiply_narrow(void)
{
    const int32_t n_pairs = draw(1, 6);
    const trec_kernels kernels = {
        .first = bytes[0] + 4 * draw(0, 3),
        .step = 4 * draw(6, 40),
        .count = draw(0, 4),
        .n_pairs = n_pairs,
    };
    trec_narrow narrow = {.n_blocks = draw(1, n_pairs > 1 ? 30 / n_pairs : 20), .row_step = 4 * draw(4, 12)};
    for (int32_t c = 0; c < 8; c++) {
        narrow.shifts[c] = draw(11, 20); /* 12 products below 2^22 and a quarter: below 2^15 after 11 bits */
        narrow.halves[c] = 1 << narrow.shifts[c] >> 1;
    }
    for (int32_t i = 0; i < BYTES; i++) {
        numbers[0][i] = numbers[1][i] = 0;
    }
    plain_multiply_narrow(block, &kernels, &narrow, (int16_t *)(numbers[0] + 3));
    pack((int16_t *)numbers[0], 2 * BYTES);
    trec_multiply_narrow(block, &kernels, &narrow, (int16_t *)(numbers[1] + 3));
    return numbers_differ();
}

static int32_t try_add_parts(void)
{
    int16_t *table = (int16_t *)numbers[2];
    const trec_parts parts = {
        .table = table,
        .row_step = 16 * draw(3 * 11, 36),
        .n_lines = draw(1, 3),
        .n_parts = draw(1, 11),
        .line_step = draw(0, 20),
        .out_step = draw(0, 5),
    };
    for (int32_t i = 0; i < 2 * BYTES; i++) {
        table[i] = (int16_t)draw(-990, 990);
    }
    uint8_t *ids = (uint8_t *)bytes[1];
    for (int32_t i = 0; i < 512; i++) {
        ids[i] = (uint8_t)draw(0, 4096 / parts.row_step - 1);
    }
    int32_t factors[TREC_PART_CHANNELS];
    for (int32_t c = 0; c < TREC_PART_CHANNELS; c++) {
        factors[c] = draw(0, 1000000);
    }
    const int32_t n = draw(1, 4), r = draw(0, 4 - n), is_start = draw(0, 1), is_last = draw(0, 1);
    trec_part_sums to = {.start_step = draw(0, 1), .factors = is_last ? factors : NULL, .zero = draw(-128, 127)};
    to.out_c = draw(8, 20);
    to.start = numbers[0] + r + 64 * is_start;
    to.sums = numbers[0] + r;
    to.outputs = bytes[0] + 512 + draw(0, 3);
    plain_add_parts(&parts, ids + 1, n, &to);
    pack(table, 2 * BYTES);
    to.start += numbers[1] - numbers[0];
    to.sums = numbers[1] + r;
    to.outputs += bytes[1] - bytes[0];
    trec_add_parts(&parts, ids + 1, n, &to);
    return numbers_differ() || (is_last && differ(bytes[0] + 512, bytes[1] + 512, 100));
}

static int32_t try_widen(void)
{
    const int32_t n = draw(0, 50), first = draw(0, 30), r = draw(0, 3), from = draw(0, 3);
    plain_widen(bytes[0] + from, n, first, (int16_t *)numbers[0] + 2 * r);
    trec_widen(bytes[0] + from, n, first, (int16_t *)numbers[1] + 2 * r);
    return numbers_differ();
}

static int32_t try_add_row(void)
{
    const int32_t n_pairs = draw(1, MOST / 2), from = draw(0, 3), to = draw(0, 3);
    plain_add_row(block + 2 * from, n_pairs, numbers[0] + 2 * to);
    trec_add_row(block + 2 * from, n_pairs, numbers[1] + 2 * to);
    return numbers_differ();
}

static int32_t try_sum_terms(void)
{
    uint16_t places[48];
    const trec_terms terms = {places, bytes[0] + draw(0, 3), 4 * draw(1, 12)};
    for (int32_t i = 0; i < 48; i++) {
        places[i] = (uint16_t)draw(0, BYTES - 8);
    }
    plain_sum_terms(bytes[0] + 3, &terms, numbers[0] + 3);
    trec_sum_terms(bytes[0] + 3, &terms, numbers[1] + 3);
    return numbers_differ();
}

static int32_t try_round_high(void)
{
    const int32_t value = draw(-8000000, 8000000) * 256 + draw(0, 255), factor = draw(0, 8000000) * 256;
    const int32_t zero = draw(-128, 127);
    return trec_round_high(value, factor, zero) != plain_round_high(value, factor, zero);
}

static int32_t try_requantize(void)
{
    int32_t factors[12];
    for (int32_t c = 0; c < 12; c++) {
        factors[c] = draw(0, 9) == 0 ? 0x7FFFFFFF : draw(0, 1 << draw(1, 22));
    }
    for (int32_t i = 0; i < 64; i++) {
        numbers[0][i] = numbers[1][i] = numbers[0][i] * 100 + draw(0, 99);
    }
    const trec_rescale rescale = {factors, TREC_HIGH, draw(-128, 127), -128, 127};
    const trec_rows rows = {.first = 0, .count = 4 * draw(0, 3), .n = 4, .out_c = draw(12, 20)};
    const int32_t at = draw(0, 3);
    plain_requantize_rows(factors, &rescale, &rows, numbers[0], bytes[0] + at);
    trec_requantize_rows(factors, &rescale, &rows, numbers[1], bytes[1] + at);
    return differ(bytes[0], bytes[1], BYTES);
}

static int32_t try_add_words(void)
{
    const int32_t a = draw(200, 203), b = draw(100, 103), to = draw(0, 3);
    const trec_weighted terms = {{(int16_t)draw(0, 32767), (int16_t)draw(0, 32767)}, draw(-8000000, 8000000)};
    const int32_t n_words = draw(0, 20);
    plain_add_words(&terms, bytes[0] + a, bytes[0] + b, n_words, bytes[0] + to);
    trec_add_words(&terms, bytes[1] + a, bytes[1] + b, n_words, bytes[1] + to);
    return differ(bytes[0], bytes[1], BYTES);
}

static int32_t try_depthwise(void)
{
    int32_t factors[12];
    for (int32_t c = 0; c < 12; c++) {
        factors[c] = draw(0, 100000000);
    }
    const trec_taps taps = {
        .columns = draw(1, 4),
        .rows = draw(1, 3),
        .x_rest = draw(0, 40),
        .w_rest = draw(0, 40),
        .bias = numbers[0],
        .factors = factors,
        .zero = draw(-128, 127),
        .n_fours = draw(0, 3),
        .channels = draw(12, 20),
        .x_zero = draw(-128, 127),
    };
    const int32_t x = draw(200, 203), w = draw(600, 603), to = draw(0, 3);
    plain_depthwise_fours(&taps, bytes[0] + x, bytes[0] + w, bytes[0] + to);
    trec_depthwise_fours(&taps, bytes[1] + x, bytes[1] + w, bytes[1] + to);
    return differ(bytes[0], bytes[1], BYTES);
}

static int32_t try_max(void)
{
    const int32_t n = draw(0, 50), to = draw(0, 3), from = draw(100, 103);
    plain_max_s8(bytes[0] + to, bytes[0] + from, n);
    trec_max_s8(bytes[1] + to, bytes[1] + from, n);
    return differ(bytes[0], bytes[1], BYTES);
}

static int32_t (*const trials[TREC_OUTPUT_BYTES / 2])(void) = {
    try_dot,       try_dot_s16,    try_dot_1x4, try_multiply,        try_widen,     try_add_row,
    try_sum_terms, try_requantize, try_max,     try_multiply_narrow, try_add_parts, try_round_high,
    try_add_words, try_depthwise,
};

void trec_net_run(void)
{
    const uint8_t *input = trec_arena + TREC_INPUT_OFFSET;
    uint8_t *output = trec_arena + TREC_OUTPUT_OFFSET;
    state = (uint32_t)input[0] | (uint32_t)input[1] << 8 | (uint32_t)input[2] << 16 | (uint32_t)input[3] << 24;
    for (int32_t i = 0; i < TREC_OUTPUT_BYTES / 2; i++) {
        int32_t wrong = 0;
        int32_t changed = 0;
        for (int32_t round = 0; round < ROUNDS; round++) {
            fill_all();
            const int32_t before = numbers[0][0] + numbers[0][3] + bytes[0][3] + bytes[0][40];
            wrong += trials[i]();
            changed |= before != numbers[0][0] + numbers[0][3] + bytes[0][3] + bytes[0][40];
        }
        output[2 * i] = (uint8_t)wrong;
        output[2 * i + 1] = (uint8_t)changed;
    }
}
