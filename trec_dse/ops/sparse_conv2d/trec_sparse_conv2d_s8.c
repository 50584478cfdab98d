/* Dense int8 convolution that leaves out blank windows: the others are gathered, four at a time, and scattered back. */
#include "trec_sparse_conv2d_s8.h"

#include "trec_arch.h" /* defines: trec_multiply, trec_widen */
#include "trec_rows.h" /* defines: trec_rows, trec_rows_requantize */

/* The scratch of one call: int32 first, so that none needs padding. */
typedef struct {
    int32_t *sums;   /* (out_c, 4), out_c even */
    int16_t *block;  /* the rows that wait: (k / 2, 4, 2) */
    int8_t *outputs; /* theirs: (4, out_c) */
    int8_t *blank;   /* the output of a blank window: (out_c) */
    uint8_t *columns; /* (in_w): whether some pixel that the windows of a row read in that column is not blank */
    int8_t *places[4]; /* where the outputs belong */
    int32_t n;         /* rows that wait */
} workspace;

static int32_t count_pairs(const trec_sparse_conv2d *p)
{
    return (p->window.kernel_h * p->window.kernel_w * p->window.in_c + 1) / 2;
}

static int32_t sums_size(const trec_sparse_conv2d *p)
{
    return 4 * (p->out_c + p->out_c % 2);
}

int32_t trec_sparse_conv2d_scratch_bytes(const trec_sparse_conv2d *p)
{
    return 16 * count_pairs(p) + 4 * sums_size(p) + 5 * p->out_c + p->window.in_w;
}

static workspace cut(const trec_sparse_conv2d *p, void *scratch)
{
    workspace w = {.sums = scratch};
    w.block = (int16_t *)(w.sums + sums_size(p));
    w.outputs = (int8_t *)(w.block + 8 * count_pairs(p));
    w.blank = w.outputs + 4 * p->out_c;
    w.columns = (uint8_t *)(w.blank + p->out_c);
    return w;
}

/* The outputs of the rows in the block. */
static void multiply(const trec_sparse_conv2d *p, const workspace *w, int8_t *outputs)
{
    const int32_t count = (p->out_c + 1) / 2;
    const trec_kernels kernels = {p->weights, 4 * count_pairs(p), count, count_pairs(p)};
    const trec_rows rows = {.count = p->out_c, .n = 4, .out_c = p->out_c};
    for (int32_t c = 0; c < p->out_c; c++) {
        int32_t *own = w->sums + 4 * c;
        own[0] = own[1] = own[2] = own[3] = p->bias[c];
    }
    trec_multiply(w->block, &kernels, w->sums);
    trec_rows_requantize(&p->rescale, &rows, w->sums, outputs);
}

/* Multiplies the rows that wait, and puts their outputs where they belong. */
static void flush(const trec_sparse_conv2d *p, workspace *w)
{
    if (w->n > 0) {
        multiply(p, w, w->outputs);
    }
    for (int32_t r = 0; r < w->n; r++) {
        __builtin_memcpy(w->places[r], w->outputs + r * p->out_c, (size_t)p->out_c);
    }
    w->n = 0;
}

/* Whether some pixel of column x in the rows that windows from `top` on read is not blank. */
static int32_t column_is_used(const trec_sparse_conv2d *p, const int8_t *input, int32_t top, int32_t x)
{
    const trec_window *w = &p->window;
    for (int32_t y = top; y < top + w->kernel_h; y++) {
        const int8_t *pixel = input + (y * w->in_w + x) * w->in_c;
        for (int32_t c = 0; y >= 0 && y < w->in_h && c < w->in_c; c++) {
            if (pixel[c] != p->blank) {
                return 1;
            }
        }
    }
    return 0;
}

/* Outside the image stands the zero point, which need not be the blank value. */
static int32_t is_blank(const trec_sparse_conv2d *p, const workspace *w, int32_t top, int32_t left)
{
    const trec_window *g = &p->window;
    const int32_t is_inside = top >= 0 && top + g->kernel_h <= g->in_h && left >= 0 && left + g->kernel_w <= g->in_w;
    if (!is_inside && p->in_zero != p->blank) {
        return 0;
    }
    for (int32_t x = left; x < left + g->kernel_w; x++) {
        if (x >= 0 && x < g->in_w && w->columns[x] != 0) {
            return 0;
        }
    }
    return 1;
}

static void fill(int32_t value, int32_t first, int32_t n, int16_t *row)
{
    for (int32_t k = first; k < first + n; k++) {
        row[k / 2 * 8 + k % 2] = (int16_t)value;
    }
}

/* Writes a window to a row of the block. */
static void read_row(const trec_sparse_conv2d *p, const int8_t *input, int32_t top, int32_t left, int16_t *row)
{
    const trec_window *w = &p->window;
    const int32_t strip = w->kernel_w * w->in_c;
    const int32_t from = trec_clamp(-left * w->in_c, 0, strip);
    const int32_t to = trec_clamp((w->in_w - left) * w->in_c, from, strip);
    for (int32_t ky = 0; ky < w->kernel_h; ky++) {
        const int32_t y = top + ky, first = ky * strip;
        if (y < 0 || y >= w->in_h || from == to) {
            fill(p->in_zero, first, strip, row);
            continue;
        }
        fill(p->in_zero, first, from, row);
        trec_widen(input + ((y * w->in_w + left) * w->in_c + from), to - from, first + from, row);
        fill(p->in_zero, first + to, strip - to, row);
    }
}

void trec_sparse_conv2d_s8(const trec_sparse_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const trec_window *g = &p->window;
    workspace w = cut(p, scratch);
    for (int32_t k = 0; k < 8 * count_pairs(p); k++) {
        w.block[k] = (int16_t)p->blank;
    }
    multiply(p, &w, w.outputs);
    __builtin_memcpy(w.blank, w.outputs, (size_t)p->out_c);
    for (int32_t out_y = 0; out_y < g->out_h; out_y++) {
        const int32_t top = out_y * g->stride_h - g->pad_h;
        for (int32_t x = 0; x < g->in_w; x++) {
            w.columns[x] = (uint8_t)column_is_used(p, input, top, x);
        }
        for (int32_t out_x = 0; out_x < g->out_w; out_x++, output += p->out_c) {
            const int32_t left = out_x * g->stride_w - g->pad_w;
            if (is_blank(p, &w, top, left)) {
                __builtin_memcpy(output, w.blank, (size_t)p->out_c);
                continue;
            }
            read_row(p, input, top, left, w.block + 2 * w.n);
            w.places[w.n++] = output;
            if (w.n == 4) {
                flush(p, &w);
            }
        }
    }
    flush(p, &w);
}
