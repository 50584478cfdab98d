/* Read a part of one row of the unfolded input, without ever storing that matrix. */
#include "trec_window.h"

void trec_window_row(const trec_window *w, const int8_t *input, int32_t zero, int32_t position, int32_t first,
                     int32_t n, int8_t *row)
{
    const int32_t top = position / w->out_w * w->stride_h - w->pad_h;
    const int32_t left = position % w->out_w * w->stride_w - w->pad_w;
    const int32_t tap = first / w->in_c; /* which pixel of the window */
    int32_t channel = first - tap * w->in_c;
    int32_t ky = tap / w->kernel_w;
    int32_t kx = tap - ky * w->kernel_w;
    while (n > 0) {
        const int32_t y = top + ky;
        const int32_t x = left + kx;
        const int32_t rest = w->in_c - channel;
        const int32_t count = rest < n ? rest : n;
        if (y >= 0 && y < w->in_h && x >= 0 && x < w->in_w) {
            const int8_t *pixel = input + (y * w->in_w + x) * w->in_c + channel;
            for (int32_t i = 0; i < count; i++) {
                row[i] = pixel[i];
            }
        } else {
            for (int32_t i = 0; i < count; i++) {
                row[i] = (int8_t)zero;
            }
        }
        row += count;
        n -= count;
        channel = 0;
        if (++kx == w->kernel_w) {
            kx = 0;
            ky++;
        }
    }
}
