/* Compares the primitives of the core's own header with those of portable.h on random sizes, places and values. */
#include "trec_network.h"

#define trec_dot_s8 plain_dot_s8
#define trec_dot_s16_s8 plain_dot_s16_s8
#define trec_dot_1x4 plain_dot_1x4
#define trec_multiply plain_multiply
#define trec_multiply_narrow plain_multiply_narrow
#define trec_add_parts plain_add_parts
#define trec_widen plain_widen
#define trec_add_row plain_add_row
#define trec_sum_terms plain_sum_terms
#define trec_requantize_columns plain_requantize_columns
#define trec_max_s8 plain_max_s8
#include "portable.h"
#undef trec_dot_s8
#undef trec_dot_s16_s8
#undef trec_dot_1x4
#undef trec_multiply
#undef trec_multiply_narrow
#undef trec_add_parts
#undef trec_widen
#undef trec_add_row
#undef trec_sum_terms
#undef trec_requantize_columns
#undef trec_max_s8
#include "armv7em_dsp.h"

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
    plain_multiply_narrow(block, &kernels, &narrow, (int16_t *)(numbers[0] + 3));
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
    for (int32_t i = 0; i < BYTES; i++) {
        ids[i] = (uint8_t)draw(0, 4096 / parts.row_step - 1);
    }
    const int32_t n = draw(1, 4), r = draw(0, 4 - n);
    const int32_t is_start = draw(0, 1);
    plain_add_parts(&parts, ids + 1, n, numbers[0] + r + 64 * is_start, numbers[0] + r);
    trec_add_parts(&parts, ids + 1, n, numbers[1] + r + 64 * is_start, numbers[1] + r);
    return numbers_differ();
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

static int32_t try_requantize(void)
{
    int32_t multipliers[12];
    uint8_t shifts[12];
    for (int32_t c = 0; c < 12; c++) {
        multipliers[c] = draw(0, 9) == 0 ? 0 : (int32_t)0x40000000 + draw(0, 0xFFFFFF) * 64;
        shifts[c] = (uint8_t)(draw(0, 9) == 0 ? draw(31, 32) : draw(33, draw(34, 62)));
    }
    for (int32_t i = 0; i < 64; i++) {
        numbers[0][i] = numbers[1][i] = numbers[0][i] * 100 + draw(0, 99);
    }
    const int32_t min = draw(-128, 0);
    const trec_rescale rescale = {multipliers, shifts, draw(-128, 127), min, draw(min, 127)};
    const int32_t first = draw(0, 3);
    const trec_rows rows = {.first = first, .count = draw(0, 12 - first), .n = 4, .out_c = draw(12, 20)};
    const int32_t done = plain_requantize_columns(&rescale, &rows, numbers[0], bytes[0]);
    return trec_requantize_columns(&rescale, &rows, numbers[1], bytes[1]) != done || differ(bytes[0], bytes[1], BYTES);
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
    try_sum_terms, try_requantize, try_max,     try_multiply_narrow, try_add_parts,
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
