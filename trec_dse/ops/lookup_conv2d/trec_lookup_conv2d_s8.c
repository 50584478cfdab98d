/* Int8 convolution by lookup.
 *
 * The rows of the image that a row of windows reads stand channel by channel in kernel_h lines, padding included. In a
 * line the columns of equal number modulo the stride stand side by side, so what four neighbouring positions read at a
 * tap are four neighbouring bytes. With the next row of windows the lines move up.
 */
#include "trec_lookup_conv2d_s8.h"

#include "trec_arch.h" /* defines: trec_sum_terms */
#include "trec_rows.h" /* defines: trec_rows, trec_rows_requantize */

enum { GROUP = 8 }; /* output channels whose sums are alive at a time */

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t line_bytes(const trec_lookup_conv2d *p)
{
    return p->window.in_c * p->window.stride_w * p->phase;
}

int32_t trec_lookup_conv2d_scratch_bytes(const trec_lookup_conv2d *p)
{
    return p->window.kernel_h * line_bytes(p);
}

/* Writes row y of the image, which may lie outside, to a line: (in_c, stride_w, phase) */
static void read_line(const trec_lookup_conv2d *p, const int8_t *input, int32_t y, int8_t *line)
{
    const trec_window *w = &p->window;
    const int32_t columns = w->stride_w * p->phase;
    __builtin_memset(line, p->in_zero, (size_t)line_bytes(p));
    if (y < 0 || y >= w->in_h) {
        return;
    }
    for (int32_t i = 0; i < columns; i++) {
        const int32_t x = i % p->phase * w->stride_w + i / p->phase - w->pad_w;
        if (x >= 0 && x < w->in_w) {
            const int8_t *pixel = input + (y * w->in_w + x) * w->in_c;
            int8_t *to = line + i;
            for (int32_t c = 0; c < w->in_c; c++, to += columns) {
                *to = *pixel++;
            }
        }
    }
}

/* The lines of the windows whose first row is `first` in the padded image; up to `known` they were read before. */
static void read_lines(const trec_lookup_conv2d *p, const int8_t *input, int32_t first, int32_t known, int8_t *lines)
{
    const int32_t n_kept = known > first ? known - first : 0;
    const int32_t size = line_bytes(p);
    __builtin_memmove(lines, lines + (p->window.kernel_h - n_kept) * size, (size_t)(n_kept * size));
    for (int32_t i = n_kept; i < p->window.kernel_h; i++) {
        read_line(p, input, first + i - p->window.pad_h, lines + i * size);
    }
}

/* Four output positions, of which n are there; lines: from the column of the first. output: (n, out_c) */
static void multiply(const trec_lookup_conv2d *p, const int8_t *lines, int32_t n, int8_t *output)
{
    trec_rows rows = {.n = n, .out_c = p->out_c};
    trec_terms terms = {p->places, p->weights, p->n_terms};
    for (; rows.first < p->out_c; rows.first += rows.count) {
        int32_t sums[4 * GROUP];
        rows.count = smaller(GROUP, p->out_c - rows.first);
        for (int32_t c = 0; c < rows.count; c++) {
            int32_t *own = sums + 4 * c;
            own[0] = own[1] = own[2] = own[3] = p->bias[rows.first + c];
            trec_sum_terms(lines, &terms, own);
            terms.places += p->n_terms;
            terms.weights += p->n_terms;
        }
        trec_rows_requantize(&p->rescale, &rows, sums, output);
    }
}

void trec_lookup_conv2d_s8(const trec_lookup_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const trec_window *w = &p->window;
    int8_t *lines = scratch;
    int32_t known = 0; /* rows of the padded image that were read */
    for (int32_t y = 0; y < w->out_h; y++) {
        read_lines(p, input, y * w->stride_h, known, lines);
        known = y * w->stride_h + w->kernel_h;
        for (int32_t x = 0; x < w->out_w; x += 4) {
            multiply(p, lines + x, smaller(4, w->out_w - x), output + (y * w->out_w + x) * p->out_c);
        }
    }
}
