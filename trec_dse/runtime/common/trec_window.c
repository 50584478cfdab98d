/* Read a part of one row of the unfolded input, without ever storing that matrix.
 *
 * The row is a list of strips, one per row of the kernel; a strip lies in the image without a gap, but for the
 * elements left and right of it.
 */
#include "trec_window.h"

#include "trec_arch.h" /* defines: trec_widen */

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Writes n times the value to the elements from first on. */
static void fill(int32_t value, int32_t n, int32_t first, int16_t *row)
{
    for (int32_t k = first; k < first + n; k++) {
        row[(k >> 1) * 8 + (k & 1)] = (int16_t)value;
    }
}

void trec_window_row(const trec_window *w, const int8_t *input, int32_t zero, int32_t position, int32_t first,
                     int32_t n, int16_t *row)
{
    const int32_t out_y = position / w->out_w;
    const int32_t left = (position - out_y * w->out_w) * w->stride_w - w->pad_w;
    const int32_t strip = w->kernel_w * w->in_c;
    const int32_t inside_from = left < 0 ? smaller(-left * w->in_c, strip) : 0;
    const int32_t inside_to = trec_clamp((w->in_w - left) * w->in_c, inside_from, strip);
    const int32_t ky = first / strip;
    int32_t y = out_y * w->stride_h - w->pad_h + ky;
    int32_t start = first - ky * strip; /* within the strip */
    for (int32_t k = 0; k < n; y++) {
        const int32_t end = smaller(strip, start + n - k);
        const int32_t is_inside = y >= 0 && y < w->in_h;
        const int32_t from = is_inside ? trec_clamp(inside_from, start, end) : end;
        const int32_t to = is_inside ? trec_clamp(inside_to, from, end) : end;
        if (from > start) {
            fill(zero, from - start, k, row);
        }
        if (to > from) {
            trec_widen(input + ((y * w->in_w + left) * w->in_c + from), to - from, k + from - start, row);
        }
        if (end > to) {
            fill(zero, end - to, k + to - start, row);
        }
        k += end - start;
        start = 0;
    }
    if ((n & 1) != 0) {
        row[(n >> 1) * 8 + 1] = 0;
    }
}

void trec_window_block(const trec_window *w, const int8_t *input, int32_t zero, int32_t position, int32_t first,
                       int32_t n, int16_t *block)
{
    const int32_t last = w->out_h * w->out_w - 1;
    for (int32_t r = 0; r < 4; r++) {
        trec_window_row(w, input, zero, smaller(position + r, last), first, n, block + 2 * r);
    }
}
