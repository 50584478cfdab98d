/* Int8 convolution of pattern kernels: four rows of the unfolded input at a time, slice by slice. */
#include "trec_pattern_conv2d_s8.h"

#include "trec_arch.h"   /* defines: trec_multiply */
#include "trec_rows.h"   /* defines: trec_rows, trec_rows_requantize */
#include "trec_window.h" /* defines: trec_slice, trec_window_block */

/* The scratch of one call: int32 first, so that none needs padding. */
typedef struct {
    int32_t *sums;  /* (out_c, 4) */
    int32_t *own;   /* (kernels of a slice, one more if they are odd, 4) */
    int16_t *block; /* four rows: (row / 2, 4, 2) */
    int16_t *part;  /* what a slice reads of them: (length / 2, 4, 2) */
} workspace;

static int32_t row_length(const trec_pattern_conv2d *p)
{
    return p->window.kernel_h * p->window.kernel_w * p->window.in_c;
}

static int32_t count_pairs(const trec_pattern_conv2d *p)
{
    return (p->n_taps * p->depth + 1) / 2;
}

int32_t trec_pattern_conv2d_scratch_bytes(const trec_pattern_conv2d *p)
{
    return 16 * ((row_length(p) + 1) / 2 + count_pairs(p) + 2 * p->out_c + 1);
}

static workspace cut(const trec_pattern_conv2d *p, void *scratch)
{
    workspace w;
    w.sums = scratch;
    w.own = w.sums + 4 * p->out_c;
    w.block = (int16_t *)(w.own + 4 * (p->out_c + 1));
    w.part = w.block + 8 * ((row_length(p) + 1) / 2);
    return w;
}

static void start(const int32_t *bias, int32_t count, int32_t *sums)
{
    for (int32_t c = 0; c < count; c++, sums += 4) {
        sums[0] = sums[1] = sums[2] = sums[3] = bias[c];
    }
}

/* Copies n elements of a block, from first on, to the elements of part from `to` on. */
static void copy(const int16_t *block, int32_t first, int32_t n, int32_t to, int16_t *part)
{
    if (((first | n | to) & 1) == 0) {
        __builtin_memcpy(part + 4 * to, block + 4 * first, (size_t)(8 * n));
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        const int16_t *from = block + (first + i) / 2 * 8 + (first + i) % 2;
        int16_t *element = part + (to + i) / 2 * 8 + (to + i) % 2;
        element[0] = from[0];
        element[2] = from[2];
        element[4] = from[4];
        element[6] = from[6];
    }
}

/* What a slice reads; behind an odd length stands whatever, for kernels have zeros there. */
static void gather(const trec_pattern_conv2d *p, const uint16_t *slice, const workspace *w)
{
    const uint8_t *taps = p->patterns + slice[1] * p->n_taps;
    for (int32_t t = 0; t < p->n_taps; t++) {
        copy(w->block, taps[t] * p->window.in_c + slice[0] * p->depth, p->depth, t * p->depth, w->part);
    }
}

/* Adds the sums of a slice's n kernels to those of their channels. */
static void scatter(const uint16_t *kernels, int32_t n, const int32_t *own, int32_t *sums)
{
    for (int32_t i = 0; i < n; i++, own += 4) {
        int32_t *to = sums + 4 * kernels[i];
        to[0] += own[0];
        to[1] += own[1];
        to[2] += own[2];
        to[3] += own[3];
    }
}

void trec_pattern_conv2d_s8(const trec_pattern_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const workspace w = cut(p, scratch);
    const int32_t positions = p->window.out_h * p->window.out_w;
    const trec_slice whole = {0, row_length(p)};
    for (int32_t i = 0; i < positions; i += 4) {
        const uint16_t *list = p->kernels;
        trec_kernels kernels = {.first = p->weights, .step = 4 * count_pairs(p), .n_pairs = count_pairs(p)};
        const trec_rows rows = {.n = positions - i < 4 ? positions - i : 4, .count = p->out_c, .out_c = p->out_c};
        trec_window_block(&p->window, input, p->in_zero, i, whole, w.block);
        start(p->bias, p->out_c, w.sums);
        for (int32_t s = 0; s < p->n_slices; s++) {
            const uint16_t *slice = p->slices + 3 * s;
            kernels.count = (slice[2] + 1) / 2;
            gather(p, slice, &w);
            __builtin_memset(w.own, 0, (size_t)kernels.count * 32u);
            trec_multiply(w.part, &kernels, w.own);
            scatter(list, slice[2], w.own, w.sums);
            kernels.first += kernels.count * kernels.step;
            list += slice[2];
        }
        trec_rows_requantize(&p->rescale, &rows, w.sums, output + i * p->out_c);
    }
}
