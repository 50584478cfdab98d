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
    int32_t line;    /* elements of a row of the image */
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
    const int32_t strip = r->strip, n = r->n;
    const int8_t *from = r->input + (y * r->line + x * r->w->in_c + r->start);
    if (r->n_lines == 1) {
        trec_widen(from, n, 0, row);
        return;
    }
    int32_t length = strip - r->start;
    trec_widen(from, length, 0, row);
    from -= r->start;
    for (int32_t k = length; k < n; k += length) {
        from += r->line;
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

/* The row of the window at pixel (y, x). */
static void read_row(const reader *r, int32_t y, int32_t x, int16_t *row)
{
    const trec_window *w = r->w;
    if (y >= 0 && y + r->n_lines <= w->in_h && x >= 0 && x + w->kernel_w <= w->in_w) {
        read_inside(r, y, x, row);
    } else {
        read_edge(r, y, x, row);
    }
}

/* Rows of n neighbouring windows, the first at pixel (y, x); i: rows that have gone before, row: where those go on.
 * Returns where they go on then. */
static int16_t *read_line(const reader *r, int32_t y, int32_t x, int32_t n, int32_t i, int16_t *row)
{
    const trec_window *w = r->w;
    const int32_t in_c = w->in_c, length = r->n, behind = (length + 1) / 2 * 8 - 6;
    const int32_t last = r->n_lines == 1 && y >= 0 && y < w->in_h ? w->in_w - w->kernel_w : -1; /* in one piece */
    const int8_t *from = last < 0 ? r->input : r->input + (y * r->line + r->start);
    for (const int32_t end = i + n; i < end; x += w->stride_w) {
        if (x >= 0 && x <= last) {
            trec_widen(from + x * in_c, length, 0, row);
        } else {
            read_row(r, y, x, row);
        }
        if ((length & 1) != 0) {
            row[(length >> 1) * 8 + 1] = 0;
        }
        row += (++i & 3) == 0 ? behind : 2;
    }
    return row;
}

void trec_window_blocks(const trec_image *image, trec_slice slice, int32_t position, int32_t n_blocks,
                        int16_t *blocks)
{
    const trec_window *w = image->window;
    reader r = {.w = w, .input = image->values, .zero = image->zero, .strip = w->kernel_w * w->in_c, .n = slice.n};
    const int32_t ky = slice.first / r.strip;
    int32_t out_y = position / w->out_w;
    int32_t out_x = position - out_y * w->out_w;
    r.start = slice.first - ky * r.strip;
    r.n_lines = (r.start + slice.n - 1) / r.strip + 1;
    r.line = w->in_w * w->in_c;
    for (int32_t i = 0, n = 0; i < 4 * n_blocks; i += n) {
        n = smaller(w->out_w - out_x, 4 * n_blocks - i);
        blocks = read_line(&r, out_y * w->stride_h - w->pad_h + ky, out_x * w->stride_w - w->pad_w, n, i, blocks);
        out_x = 0;
        if (++out_y == w->out_h) {
            out_x = w->out_w - 1;
            out_y--;
        }
    }
}

void trec_window_block(const trec_window *w, const int8_t *input, int32_t zero, int32_t position, trec_slice slice,
                       int16_t *block)
{
    const trec_image image = {w, input, zero};
    trec_window_blocks(&image, slice, position, 1, block);
}
