/* Read a part of some rows of the unfolded input, without ever storing that matrix.
 *
 * A row is a list of strips, one per row of the kernel; a strip lies in the image without a gap, but for the
 * elements left and right of it.
 */
#include "trec_window.h"

#include "trec_arch.h" /* defines: trec_widen */

/* What the rows of a block have in common. */
typedef struct {
    const trec_window *w;
    const int8_t *input;
    int32_t zero;
    int32_t strip;   /* elements of a strip */
    int32_t n_lines; /* strips that the slice touches */
    int32_t start;   /* where it begins in the first of them */
    int32_t n;
} reader;

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Writes n times the value to the elements of a row from first on. */
static void fill(int32_t value, int32_t n, int32_t first, int16_t *row)
{
    int16_t *to = row + (first >> 1) * 8;
    if ((first & 1) != 0 && n > 0) {
        to[1] = (int16_t)value;
        to += 8;
        n--;
    }
    for (; n >= 2; n -= 2, to += 8) {
        to[0] = (int16_t)value;
        to[1] = (int16_t)value;
    }
    if (n > 0) {
        to[0] = (int16_t)value;
    }
}

/* A row that lies wholly in the image, from pixel (y, x) on. */
static void read_inside(const reader *r, int32_t y, int32_t x, int16_t *row)
{
    const int32_t line = r->w->in_w * r->w->in_c;
    const int32_t strip = r->strip, n = r->n;
    const int8_t *from = r->input + (y * line + x * r->w->in_c + r->start);
    int32_t length = smaller(strip - r->start, n);
    trec_widen(from, length, 0, row);
    from -= r->start;
    for (int32_t k = length; k < n; k += length) {
        from += line;
        length = smaller(strip, n - k);
        trec_widen(from, length, k, row);
    }
}

/* A row of which some pixels lie outside. */
static void read_edge(const reader *r, int32_t y, int32_t x, int16_t *row)
{
    const trec_window *w = r->w;
    const int32_t inside_from = x < 0 ? smaller(-x * w->in_c, r->strip) : 0;
    const int32_t inside_to = trec_clamp((w->in_w - x) * w->in_c, inside_from, r->strip);
    int32_t start = r->start;
    for (int32_t k = 0; k < r->n; y++) {
        const int32_t end = smaller(r->strip, start + r->n - k);
        const int32_t is_inside = y >= 0 && y < w->in_h;
        const int32_t from = is_inside ? trec_clamp(inside_from, start, end) : end;
        const int32_t to = is_inside ? trec_clamp(inside_to, from, end) : end;
        fill(r->zero, from - start, k, row);
        if (to > from) {
            trec_widen(r->input + ((y * w->in_w + x) * w->in_c + from), to - from, k + from - start, row);
        }
        fill(r->zero, end - to, k + to - start, row);
        k += end - start;
        start = 0;
    }
}

void trec_window_block(const trec_window *w, const int8_t *input, int32_t zero, int32_t position, trec_slice slice,
                       int16_t *block)
{
    reader r = {.w = w, .input = input, .zero = zero, .strip = w->kernel_w * w->in_c, .n = slice.n};
    const int32_t ky = slice.first / r.strip;
    const int32_t last = w->out_h * w->out_w - 1;
    r.start = slice.first - ky * r.strip;
    r.n_lines = (r.start + slice.n - 1) / r.strip + 1;
    int32_t out_y = position / w->out_w;
    int32_t out_x = position - out_y * w->out_w;
    for (int32_t i = 0; i < 4; i++) {
        const int32_t y = out_y * w->stride_h - w->pad_h + ky;
        const int32_t x = out_x * w->stride_w - w->pad_w;
        int16_t *row = block + 2 * i;
        if (y >= 0 && y + r.n_lines <= w->in_h && x >= 0 && x + w->kernel_w <= w->in_w) {
            read_inside(&r, y, x, row);
        } else {
            read_edge(&r, y, x, row);
        }
        if ((slice.n & 1) != 0) {
            row[(slice.n >> 1) * 8 + 1] = 0;
        }
        if (position + i < last && ++out_x == w->out_w) {
            out_x = 0;
            out_y++;
        }
    }
}
